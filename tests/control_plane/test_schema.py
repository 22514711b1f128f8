"""The migrations make exactly the tables that the models describe, both ways, and the database refuses nonsense."""

from uuid import uuid4

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from control_plane.database import new_id, sqlalchemy_url
from control_plane.migrate import alembic_config, migrate
from control_plane.tables import TABLES, metadata

STRUCTURE = """
SELECT 'column', table_name, column_name, data_type || ' ' || is_nullable || ' ' || coalesce(column_default, '')
       || ' ' || coalesce(generation_expression, '') || identity_generation
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL
SELECT 'constraint', conrelid::regclass::text, conname::text, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT 'index', tablename::text, indexname::text, indexdef FROM pg_indexes WHERE schemaname = 'public'
ORDER BY 1, 2, 3
"""


@pytest.fixture
def empty_url(postgres_url: str) -> str:
    name = f"schema_{uuid4().hex[:8]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres_url.rsplit("/", 1)[0] + "/" + name


def structure(url: str) -> list[tuple[str, ...]]:
    with psycopg.connect(url) as connection:
        return [row for row in connection.execute(STRUCTURE).fetchall() if row[1] != "alembic_version"]


def test_migrations_equal_the_models(empty_url: str, postgres_url: str) -> None:
    assert migrate(empty_url) == 0
    migrated = structure(empty_url)
    engine = create_engine(sqlalchemy_url(empty_url))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
    metadata.create_all(engine)
    engine.dispose()
    assert migrated == structure(empty_url)
    assert {row.__tablename__ for row in TABLES} == set(metadata.tables)


def test_migrating_twice_changes_nothing_and_down_and_up_leads_back(empty_url: str) -> None:
    assert migrate(empty_url) == 0
    before = structure(empty_url)
    assert migrate(empty_url) == 0
    command.downgrade(alembic_config(empty_url), "base")
    assert structure(empty_url) == []
    assert migrate(empty_url) == 0
    assert structure(empty_url) == before


def test_a_newer_database_is_left_alone_with_a_clear_sentence(
    empty_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert migrate(empty_url) == 0
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert migrate(empty_url) == 3
    assert "newer" in capsys.readouterr().err
    assert migrate(empty_url.replace("127.0.0.1:", "127.0.0.1:1")) == 1


@pytest.mark.parametrize(
    "nonsense",
    [
        "state = 'sleeping'",
        "kind = 'dancing'",
        "reason = 'because'",
        "state = 'running'",
        "state = 'dispatched', worker_id = 'w', attempt = 1",
        "state = 'stopping', worker_id = 'w', token_hash = 'x', lease_until = now(), attempt = 1",
        "state = 'succeeded'",
        "ended_at = now()",
        "tries = 1",
        "token_hash = 'x'",
        "last_seq = 0",
    ],
)
def test_the_database_refuses_nonsense(database_url: str, nonsense: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO projects (name, created_at) VALUES ('default', now()) ON CONFLICT DO NOTHING")
        job = new_id()
        connection.execute(
            "INSERT INTO jobs (id, project, kind, state, priority, spec, max_attempts, created_at)"
            " VALUES (%s, 'default', 'analysis', 'queued', 0, '{}', 3, now())",
            (job,),
        )
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(f"UPDATE jobs SET {nonsense} WHERE id = %s", (job,))
        connection.rollback()


def test_ids_grow() -> None:
    ids = [new_id() for _ in range(10_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert {i.version for i in ids} == {7}
