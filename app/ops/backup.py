"""One file with all that the service keeps: the rows of one moment, and the blobs that they name. Never the key ring.

A tar of `manifest.json`, the tables (PostgreSQL's binary COPY, in pieces), the blobs, and `end.json`, which says how
much there must be: a file that was cut off or damaged is not restored.

The service may run meanwhile. Rows come from one snapshot; a blob never changes under its name, but for checkpoints,
which are replaced whole. A blob that is gone when its turn comes was deleted, with its row, after that moment.

A restore goes into an empty database. Rows come first, in a transaction that ends after the last blob: killed at any
point it leaves blobs that no row names, and is run again.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from tempfile import TemporaryFile
from typing import Any, BinaryIO, cast

import psycopg
from alembic import command
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import select
from sqlalchemy.orm import Session

from unveil.app.db.job_states import ACTIVE
from unveil.app.db.migrate import alembic_config
from unveil.app.db.session import session_scope
from unveil.app.db.tables import Base, Cell, DashboardSession, Dataset, Key, ProcessHeartbeat, SignInCode
from unveil.app.security.envelope import Keyring
from unveil.app.security.key_rotation import master_versions_in_use
from unveil.app.settings import Settings
from unveil.app.storage import BlobStore
from unveil.models.core.version import __version__

_FORMAT_VERSION = 1
_TRUNCATED_MESSAGE = "the file was cut off, its end is missing: take another copy or backup"
_COPY_CHUNK_BYTES = 32 * 2**20
_READ_ATTEMPTS = 3  # to read a checkpoint, which is replaced once a minute
# What is true of running processes, and what lets somebody in for a short while: nobody is to come in twice.
_EXCLUDED_TABLES = (ProcessHeartbeat, SignInCode, DashboardSession)
_TABLES = {
    table.name: [column.name for column in table.columns]
    for table in Base.metadata.sorted_tables  # what others refer to comes first
    if table not in [left.__table__ for left in _EXCLUDED_TABLES]
}
ProgressCallback = Callable[[str], None]


class BackupError(Exception):
    """Nothing was changed; the message says why."""


def backup(settings: Settings, keyring: Keyring, out: BinaryIO, on_progress: ProgressCallback) -> None:
    """Write it all to `out`. Raises Refused, psycopg.Error, OSError."""
    blobs, archive = BlobStore(settings), _ArchiveWriter(out)
    with session_scope(settings, isolation_level="REPEATABLE READ") as session:
        schema = _read_revision(session.connection().connection.driver_connection)
        if schema != _newest_revision():
            raise BackupError(f"the schema is {schema} and not {_newest_revision()}: unveil migrate")
        manifest = {
            "format": _FORMAT_VERSION,
            "unveil": __version__,
            "schema": schema,
            "tables": _TABLES,
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "ring": {
                name: keyring.key_check_value(name) for name in ("pepper", *map(str, master_versions_in_use(session)))
            },
        }
        archive.add("manifest.json", json.dumps(manifest, indent=1).encode())
        connection: Any = session.connection().connection.driver_connection
        for table, columns in _TABLES.items():
            with connection.cursor().copy(_copy_statement(table, columns, "TO STDOUT")) as copy:
                for number, chunk in enumerate(_split_chunks(copy)):
                    archive.add(f"tables/{table}/{number:06}", chunk)
        names = list(_list_referenced_blobs(session, blobs))
    deleted_count = 0
    for name in names:
        with TemporaryFile() as buffer:
            try:
                _read_blob(blobs, name, buffer)
            except FileNotFoundError:
                deleted_count += 1
                continue
            archive.copy(f"blobs/{name}", buffer)
    archive.close()
    deleted = f"; {deleted_count} blobs were deleted meanwhile" if deleted_count else ""
    on_progress(f"wrote {len(_TABLES)} tables and {archive.member_counts['blobs']} blobs{deleted}")


def restore(settings: Settings, keyring: Keyring, source: BinaryIO, on_progress: ProgressCallback) -> None:
    """Fill an empty database, and the blob store, from what `backup` wrote. Raises Refused, psycopg.Error, OSError."""
    archive, blobs = _ArchiveReader(source), BlobStore(settings)
    manifest = archive.manifest()
    if manifest["schema"] not in {revision.revision for revision in _script_directory().walk_revisions()}:
        raise BackupError(f"Unveil {manifest['unveil']} made this file, which is newer: install that version")
    missing = [name for name, check_value in manifest["ring"].items() if keyring.key_check_value(name) != check_value]
    if missing:
        raise BackupError(
            f"the key ring is not the one that this was sealed under ({', '.join(missing)} differ or are missing): "
            "give the copy of it that was kept with this backup"
        )
    with psycopg.connect(settings.database_url) as connection:
        if _read_revision(connection) not in (None, manifest["schema"]):
            raise BackupError("the database is of another version; give one without any tables")
    command.upgrade(alembic_config(), manifest["schema"])
    with psycopg.connect(settings.database_url) as connection:
        # nobody else writes, nor another restore, until this has ended
        connection.execute("LOCK TABLE accounts IN EXCLUSIVE MODE")
        if connection.execute("SELECT 1 FROM accounts LIMIT 1").fetchone():
            raise BackupError("the database is in use: it holds accounts. Restore into an empty one")
        with ExitStack() as copies:
            current_table, copy = "", None
            for name, file in archive:
                kind, _, rest = name.partition("/")
                if kind == "blobs":
                    blobs.write_file(rest, file)
                    continue
                table = rest.partition("/")[0]
                if table != current_table:
                    copies.close()
                    statement = _copy_statement(table, manifest["tables"][table], "FROM STDIN")
                    current_table, copy = table, copies.enter_context(connection.cursor().copy(statement))
                assert copy is not None
                while chunk := file.read(2**20):
                    copy.write(chunk)
    command.upgrade(alembic_config(), "head")
    on_progress(
        f"restored {len(manifest['tables'])} tables and {archive.member_counts['blobs']} blobs of {manifest['made_at']}"
    )


def _list_referenced_blobs(session: Session, blobs: BlobStore) -> Iterator[str]:
    """The blobs that rows name, and the checkpoints of jobs that are not over."""
    yield from session.scalars(select(Dataset.blob))
    yield from filter(None, session.scalars(select(Key.weights_blob).where(Key.destroyed_at.is_(None))))
    for table in (Cell, Key):
        for id in session.scalars(
            select(table.id).where(table.checkpoint_wrapped_key.is_not(None), table.status.in_(ACTIVE))
        ):
            yield from blobs.list_recursive(f"checkpoints/{id}")


def _read_blob(blobs: BlobStore, name: str, buffer: BinaryIO) -> None:
    """A blob, whole before anything of it is written. Raises FileNotFoundError, OSError.

    An object store looks for an object when a piece of it is asked for: a delete comes in between, and a checkpoint
    that is replaced, which is an error there.
    """
    for attempts_left in reversed(range(_READ_ATTEMPTS)):
        buffer.seek(0)
        buffer.truncate()
        try:
            with blobs.open(name) as file:
                shutil.copyfileobj(file, buffer, 2**20)
            return
        except FileNotFoundError:
            raise
        except OSError:
            if not attempts_left:
                raise


def _copy_statement(table: str, columns: list[str], direction: str) -> sql.Composed:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    return sql.SQL("COPY {} ({}) {} (FORMAT BINARY)").format(sql.Identifier(table), names, sql.SQL(direction))


def _split_chunks(copy: Any) -> Iterator[bytes]:
    buffer = io.BytesIO()
    for block in copy:
        buffer.write(block)
        if buffer.tell() >= _COPY_CHUNK_BYTES:
            yield buffer.getvalue()
            buffer = io.BytesIO()
    yield buffer.getvalue()


def _read_revision(connection: Any) -> str | None:
    """The revision of a database; None where it has no tables."""
    if connection.execute("SELECT to_regclass('alembic_version')").fetchone()[0] is None:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return row and str(row[0])


def _script_directory() -> ScriptDirectory:
    return ScriptDirectory.from_config(alembic_config())


def _newest_revision() -> str | None:
    return _script_directory().get_current_head()


# --- the file ---


class _ArchiveWriter:
    """A tar that says at its end what it held."""

    def __init__(self, out: BinaryIO) -> None:
        self._tar = tarfile.open(fileobj=out, mode="w|")  # noqa: SIM115 - `close` does
        self._digest = hashlib.sha256()
        self.member_counts: Counter[str] = Counter()

    def add(self, name: str, data: bytes) -> None:
        self.copy(name, io.BytesIO(data))

    def copy(self, name: str, file: BinaryIO) -> None:
        member = tarfile.TarInfo(name)
        member.size = file.seek(0, io.SEEK_END)
        file.seek(0)
        self._tar.addfile(member, cast(BinaryIO, _HashingReader(file, self._digest)))  # it asks for `read` alone
        self.member_counts[name.partition("/")[0]] += 1

    def close(self) -> None:
        end = {"count": self.member_counts, "sha256": self._digest.hexdigest()}
        self.add("end.json", json.dumps(end).encode())
        self._tar.close()


class _ArchiveReader:
    def __init__(self, source: BinaryIO) -> None:
        self._digest = hashlib.sha256()
        self.member_counts: Counter[str] = Counter()
        try:
            self._tar = tarfile.open(fileobj=source, mode="r|")  # noqa: SIM115 - it holds nothing
        except tarfile.TarError:
            raise BackupError("this is no backup of Unveil: give a file that `unveil backup` wrote") from None

    def manifest(self) -> dict[str, Any]:
        """To be read first. Raises Refused."""
        name, file = self._next_member()
        manifest = json.load(file) if name == "manifest.json" else {}
        if manifest.get("format") != _FORMAT_VERSION:
            raise BackupError(
                "this is no backup of Unveil, or one of another version: give a file that `unveil backup` wrote"
            )
        return dict(manifest)

    def __iter__(self) -> Iterator[tuple[str, BinaryIO]]:
        """What it holds, each to be read whole before the next. Raises Refused where some of it is missing."""
        while True:
            counts_before_end, digest_before_end = dict(self.member_counts), self._digest.hexdigest()
            name, file = self._next_member()
            if name == "end.json":
                if json.load(file) != {"count": counts_before_end, "sha256": digest_before_end}:
                    raise BackupError(
                        "the file is damaged, what it holds is not what was written: take another copy or backup"
                    )
                return
            yield name, file

    def _next_member(self) -> tuple[str, BinaryIO]:
        try:
            member = self._tar.next()
        except tarfile.TarError:
            member = None
        file = None if member is None else self._tar.extractfile(member)
        if member is None or file is None:
            raise BackupError(_TRUNCATED_MESSAGE)
        self.member_counts[member.name.partition("/")[0]] += 1
        return member.name, cast(BinaryIO, _HashingReader(file, self._digest))  # its readers ask for `read` alone


class _HashingReader:
    """A file whose bytes are counted into a sum as they are read."""

    def __init__(self, file: Any, digest: Any) -> None:
        self._file, self._digest = file, digest

    def read(self, size: int = -1) -> bytes:
        try:
            data: bytes = self._file.read(size)
        except tarfile.TarError:
            raise BackupError(_TRUNCATED_MESSAGE) from None
        self._digest.update(data)
        return data
