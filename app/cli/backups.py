"""`unveil backup | restore`: all that the service keeps in one file, and back. The key ring is kept apart from it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from unveil.app.cli.common import Failed, Misused, State, errors, on_database, read_key_ring, read_settings, use_state

if TYPE_CHECKING:
    from unveil.app.settings import Settings


def register(app: typer.Typer) -> None:
    for command in (backup, restore):
        app.command()(command)


def backup(
    file: Annotated[Path, typer.Argument(help="File to make; - writes to standard output")],
    state: State = None,
) -> None:
    """Write rows and blobs into one file, while the service runs or not. The key ring is not in it: keep a copy apart.

    The file holds images and reports as they are; only keys, networks and tokens are sealed. Keep it as you keep those.
    """
    from unveil.app.ops.backup import backup as write

    with _working(state) as settings:
        ring = read_key_ring(settings)
        if str(file) == "-":
            write(settings, ring, sys.stdout.buffer, errors.print)
        else:
            with _made(file) as out:
                write(settings, ring, out, errors.print)
        if settings.keyring_file is not None:
            errors.print(f"without a copy of {settings.keyring_file}, kept elsewhere, it restores nothing")


def restore(
    file: Annotated[Path, typer.Argument(help="What `unveil backup` wrote; - reads standard input", allow_dash=True)],
    keyring: Annotated[
        Path | None, typer.Option(help="Copy of the key ring, for a new --state; elsewhere UNVEIL_KEYRING_FILE")
    ] = None,
    state: State = None,
) -> None:
    """Fill an empty database and the blob store from a backup; the service must not run. May be repeated if killed.

    With --state it makes the folder of an `unveil local`.
    """
    from unveil.app.ops.backup import restore as read

    # Whatever can be wrong with what is given, before a folder is made that could stand in the way of the next try.
    with (
        nullcontext(sys.stdin.buffer) if str(file) == "-" else file.open("rb") as source,
        _ring_given(state, keyring),
        _working(state, new=True) as settings,
    ):
        read(settings, read_key_ring(settings), source, errors.print)


@contextmanager
def _working(state: Path | None, *, new: bool = False) -> Iterator[Settings]:
    """The settings; servers of a local stack that does not run are started for the time. Raises Failed, Misused."""
    from unveil.app.local.stack import Busy, LocalStack
    from unveil.app.ops.backup import Refused

    try:
        with on_database():
            if state is None:
                yield read_settings()
                return
            if not new and not (state / "secrets").is_dir():
                use_state(state)  # which says so
            try:
                with LocalStack(state, port=0).servers() as environment:
                    os.environ.update(environment)
                    yield read_settings()
            except Busy as busy:
                if new:
                    raise Failed(str(busy)) from None
                use_state(state)
                yield read_settings()
    except (Refused, ValueError, RuntimeError) as error:
        raise Failed(str(error).strip()) from None


@contextmanager
def _made(file: Path) -> Iterator[BinaryIO]:
    """Whole or not at all, and for its owner alone."""
    if file.exists():
        raise Misused(f"{file} exists; choose another name")
    aside = file.with_name(f"{file.name}.part")
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        aside.rename(file)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def _ring_given(state: Path | None, keyring: Path | None) -> Iterator[None]:
    """A state folder has this key ring from now on, unless the restore fails: it may be the wrong one.

    Raises Misused where the folder has another, or none and none is given.
    """
    from unveil.app.local.servers import make_private, write_secret

    if state is None:
        yield
        return
    place = state / "secrets" / "keyring"
    new = not place.exists()
    if keyring is None:
        if new:
            raise Misused("a new folder needs the key ring that was in use; give the copy of it as --keyring")
        yield
        return
    try:
        given = keyring.read_text().strip()
        if place.exists() and place.read_text().strip() != given:
            raise Misused(f"{state} has a key ring of its own; restore into a new folder")
        make_private(state)
        write_secret(place, given)
    except UnicodeDecodeError:
        raise Misused(f"{keyring} is no key ring; that of a local stack is DIR/secrets/keyring") from None
    try:
        yield
    except Exception:
        if new:
            place.unlink()
        raise
