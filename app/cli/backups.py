"""`unveil backup | restore`: the rows and blobs of the service in one file. The keyring is never in it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unveil.app.cli.common import (
    CommandFailed,
    State,
    UsageError,
    database_errors_to_exit_code,
    load_state_dir,
    read_keyring,
    read_settings,
    stderr,
)
from unveil.models.core.files import replace_file

if TYPE_CHECKING:
    from unveil.app.settings import Settings


def register(app: typer.Typer) -> None:
    for command in (backup, restore):
        app.command()(command)


def backup(
    file: Annotated[Path, typer.Argument(help="File to write; - writes to stdout")],
    state: State = None,
) -> None:
    """Write all rows and blobs to one file. The service may be running. The keyring is not included: store it apart.

    Images and reports in the file are not encrypted; keys, networks and tokens are. Protect the file accordingly.
    """
    from unveil.app.ops.backup import backup as write

    with _service_settings(state) as settings:
        keyring = read_keyring(settings)
        if str(file) == "-":
            write(settings, keyring, sys.stdout.buffer, stderr().print)
        else:
            if file.exists():
                raise UsageError(f"{file} exists; choose another name")
            with replace_file(file) as out:
                write(settings, keyring, out, stderr().print)
        if settings.keyring_file is not None:
            stderr().print(
                f"keep a copy of {settings.keyring_file} elsewhere: the backup cannot be restored without it"
            )


def restore(
    file: Annotated[Path, typer.Argument(help="File written by `unveil backup`; - reads stdin", allow_dash=True)],
    keyring: Annotated[
        Path | None,
        typer.Option(help="Copy of the keyring for a new --state folder; without --state: UNVEIL_KEYRING_FILE"),
    ] = None,
    state: State = None,
) -> None:
    """Restore a backup into an empty database and blob store. The service must not run.

    An interrupted restore can be repeated. With --state, restore into a new state folder of `unveil local`.
    """
    from unveil.app.ops.backup import restore as read

    # Validates all arguments before it creates a folder, so that a failed call can be repeated.
    with (
        nullcontext(sys.stdin.buffer) if str(file) == "-" else file.open("rb") as source,
        _install_keyring(state, keyring),
        _service_settings(state, new=True) as settings,
    ):
        read(settings, read_keyring(settings), source, stderr().print)


@contextmanager
def _service_settings(state: Path | None, *, new: bool = False) -> Iterator[Settings]:
    """The settings; starts the servers of a stopped local stack meanwhile. Raises CommandFailed, UsageError."""
    from unveil.app.local.stack import AlreadyRunning, LocalStack
    from unveil.app.ops.backup import BackupError

    try:
        with database_errors_to_exit_code():
            if state is None:
                yield read_settings()
                return
            if not new and not (state / "secrets").is_dir():
                load_state_dir(state)  # which says so
            try:
                with LocalStack(state, port=0).servers() as environment:
                    os.environ.update(environment)
                    yield read_settings()
            except AlreadyRunning as busy:
                if new:
                    raise CommandFailed(str(busy)) from None
                load_state_dir(state)
                yield read_settings()
    except (BackupError, ValueError, RuntimeError) as error:
        raise CommandFailed(str(error).strip()) from None


@contextmanager
def _install_keyring(state: Path | None, keyring: Path | None) -> Iterator[None]:
    """Installs the keyring in the state folder, and removes it if the restore fails: it may be the wrong one.

    Raises UsageError if the folder has another keyring, or none and none is given.
    """
    from unveil.app.local.servers import restrict_permissions, write_secret

    if state is None:
        yield
        return
    keyring_path = state / "secrets" / "keyring"
    is_new = not keyring_path.exists()
    if keyring is None:
        if is_new:
            raise UsageError("a new folder needs a copy of the keyring that was in use; give it as --keyring")
        yield
        return
    try:
        keyring_text = keyring.read_text().strip()
        if keyring_path.exists() and keyring_path.read_text().strip() != keyring_text:
            raise UsageError(f"{state} already has a keyring; restore into a new folder")
        restrict_permissions(state)
        write_secret(keyring_path, keyring_text)
    except UnicodeDecodeError:
        raise UsageError(f"{keyring} is not a keyring file; a local stack has DIR/secrets/keyring") from None
    try:
        yield
    except Exception:
        if is_new:
            keyring_path.unlink()
        raise
