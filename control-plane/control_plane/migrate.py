"""Bringing the database to this program's schema: a step of its own, never done at import or start of a server."""

import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from control_plane.database import sqlalchemy_url
from control_plane.settings import settings

MIGRATIONS = Path(__file__).parent / "migrations"


def alembic_config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = sqlalchemy_url(url)
    return config


def migrate(url: str | None = None) -> int:
    """0 when the schema is this program's; 1 when the database does not answer; 3 when it is newer than we are."""
    url = url or settings().database_url.get_secret_value()
    config = alembic_config(url)
    script = ScriptDirectory.from_config(config)
    try:
        unknown = _unknown_revision(url, script)
        if unknown is not None:
            _say(
                f"The database is at revision {unknown}, which this version of IMTS does not know:"
                " it was written by a newer one. Run the newer version, or restore an older backup."
            )
            return 3
        command.upgrade(config, "head")
    except OperationalError as error:
        _say(f"The database does not answer: {str(error.orig).strip().splitlines()[0]}")
        return 1
    except CommandError as error:
        _say(f"The migration failed: {error}")
        return 1
    return 0


def _unknown_revision(url: str, script: ScriptDirectory) -> str | None:
    engine = create_engine(sqlalchemy_url(url), connect_args={"connect_timeout": 10})
    known = {revision.revision for revision in script.walk_revisions()}
    try:
        with engine.connect() as connection:
            found = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    except ProgrammingError:
        return None
    finally:
        engine.dispose()
    return next((revision for revision in found if revision not in known), None)


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)  # noqa: T201
