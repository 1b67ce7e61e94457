"""Runs migrations on UNVEIL_DATABASE_URL, one at a time on the whole database."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

from unveil.app.db.session import sync_engine
from unveil.app.db.tables import Base
from unveil.app.settings import Settings

_ADVISORY_LOCK_ID = 0x756E7665696C  # "unveil": two starts at once must not both migrate


def run() -> None:
    engine = sync_engine(Settings())
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata)
        with context.begin_transaction():
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK_ID})
            context.run_migrations()
    engine.dispose()


run()
