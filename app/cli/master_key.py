"""Rotation of the master key, for `unveil keys rotate-master` and `unveil keys destroy --thorough`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unveil.app.cli.common import (
    CommandFailed,
    UsageError,
    database_errors_to_exit_code,
    load_state_dir,
    read_keyring,
    read_settings,
    stderr,
)

# The service's modules are imported by the commands that need them: `unveil --help` must not wait for a web framework.
if TYPE_CHECKING:
    from unveil.app.settings import Settings


def require_keyring_file(state: Path | None) -> tuple[Settings, Path]:
    """Raises UsageError without a keyring."""
    load_state_dir(state)
    settings = read_settings()
    if settings.keyring_file is None:
        raise UsageError("no keyring file is configured: give --state DIR, or set UNVEIL_KEYRING_FILE")
    read_keyring(settings)
    return settings, settings.keyring_file


def rotate_master_key(state: Path | None, *, timeout_s: float = 60.0, after_destruction: bool = False) -> None:
    """after_destruction: of a key, so that no copy of it in the database's files decrypts any more.

    Raises UsageError and CommandFailed.
    """
    from unveil.app.db.session import sync_engine, sync_sessions
    from unveil.app.security.key_rotation import RotationIncomplete, rotate, vacuum_keys

    settings, keyring_file = require_keyring_file(state)
    engine = sync_engine(settings)
    try:
        with database_errors_to_exit_code():
            rotate(sync_sessions(engine), keyring_file, stderr().print, timeout_s=timeout_s, restart=after_destruction)
            if after_destruction:
                vacuum_keys(engine, stderr().print)
                stderr().print(
                    "delete every copy of the old keyring: it still decrypts the destroyed key in old backups"
                )
            else:
                stderr().print("keep a copy of the old keyring as long as you keep backups made under it")
    except RotationIncomplete as error:
        raise CommandFailed(str(error)) from None
    finally:
        engine.dispose()
