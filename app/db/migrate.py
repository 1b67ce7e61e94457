"""`python -m unveil.app.db.migrate [REVISION]`: bring the database at UNVEIL_DATABASE_URL to the newest schema."""

from __future__ import annotations

import sys

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory


def alembic_config() -> Config:
    """Found by package, not by working directory: it must work from an installed wheel too."""
    config = Config()
    config.set_main_option("script_location", "unveil:migrations")
    return config


def script_directory() -> ScriptDirectory:
    """All revisions of the schema."""
    return ScriptDirectory.from_config(alembic_config())


if __name__ == "__main__":
    command.upgrade(alembic_config(), sys.argv[1] if len(sys.argv) > 1 else "head")
