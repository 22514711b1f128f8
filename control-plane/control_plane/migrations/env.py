"""How Alembic reaches the database: one migration at a time, and none that waits long for a lock."""

from alembic import context
from sqlalchemy import create_engine

from control_plane.tables import metadata

LOCK = 0x494D5453


def run() -> None:
    engine = create_engine(context.config.attributes["url"], connect_args={"connect_timeout": 10})
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=metadata, compare_type=True)
        with context.begin_transaction():
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
            connection.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
            context.run_migrations()
    engine.dispose()


run()
