"""Backup of all rows of one moment and the blobs that they name, in one file, without the keyring.

The file is a tar of `manifest.json`, the tables (PostgreSQL's binary COPY in chunks), the blobs, and `end.json` with
counts and a digest, by which `restore` rejects a truncated or damaged file.

The service may run during a backup: rows come from one snapshot, and a blob never changes under its name, except for
checkpoints, which are replaced whole. A blob that is missing was deleted, with its row, after the snapshot.

A restore needs an empty database. It migrates to the schema of the backup, writes rows in a transaction that commits
after the last blob, and migrates to the newest schema. A killed restore leaves at most blobs that no row names, and can
be repeated.
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
from psycopg import sql
from sqlalchemy import select
from sqlalchemy.orm import Session

from unveil.app.db.job_states import ACTIVE
from unveil.app.db.migrate import alembic_config, script_directory
from unveil.app.db.session import session_scope
from unveil.app.db.tables import Base, Cell, DashboardSession, Dataset, Key, ProcessHeartbeat, SignInCode
from unveil.app.security.envelope import Keyring
from unveil.app.security.key_rotation import master_versions_in_use
from unveil.app.settings import Settings
from unveil.app.storage import BlobStore
from unveil.models.core.version import __version__

_FORMAT_VERSION = 1
_TRUNCATED_MESSAGE = "the file is truncated: use another copy or backup"
_COPY_CHUNK_BYTES = 32 * 2**20
_READ_ATTEMPTS = 3  # of a checkpoint, which is replaced once a minute
# Heartbeats are true of running processes only. A restored sign-in code or session could be used a second time.
_EXCLUDED_TABLES = (ProcessHeartbeat, SignInCode, DashboardSession)
_TABLES = {
    table.name: [column.name for column in table.columns]
    for table in Base.metadata.sorted_tables  # in the order of foreign keys
    if table not in [excluded.__table__ for excluded in _EXCLUDED_TABLES]
}
ProgressCallback = Callable[[str], None]


class BackupError(Exception):
    """The backup or restore was not started, or changed no row; the message says why."""


def backup(settings: Settings, keyring: Keyring, out: BinaryIO, on_progress: ProgressCallback) -> None:
    """Write a backup to `out`. Raises BackupError, psycopg.Error, OSError."""
    blobs, archive = BlobStore(settings), _ArchiveWriter(out)
    with session_scope(settings, isolation_level="REPEATABLE READ") as session:
        schema = _read_revision(session.connection().connection.driver_connection)
        newest = script_directory().get_current_head()
        if schema != newest:
            raise BackupError(f"the schema is {schema} instead of {newest}: run `unveil migrate`")
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
    deleted = f"; {deleted_count} blobs were deleted during the backup" if deleted_count else ""
    on_progress(f"wrote {len(_TABLES)} tables and {archive.member_counts['blobs']} blobs{deleted}")


def restore(settings: Settings, keyring: Keyring, source: BinaryIO, on_progress: ProgressCallback) -> None:
    """Restore a backup into an empty database and the blob store. Raises BackupError, psycopg.Error, OSError."""
    archive, blobs = _ArchiveReader(source), BlobStore(settings)
    manifest = archive.manifest()
    if manifest["schema"] not in {revision.revision for revision in script_directory().walk_revisions()}:
        raise BackupError(f"a newer version, Unveil {manifest['unveil']}, made this file: install that version")
    missing = [name for name, check_value in manifest["ring"].items() if keyring.key_check_value(name) != check_value]
    if missing:
        raise BackupError(
            f"the backup was encrypted under another keyring ({', '.join(missing)} differ or are missing): "
            "use the copy of the keyring that was kept with this backup"
        )
    with psycopg.connect(settings.database_url) as connection:
        if _read_revision(connection) not in (None, manifest["schema"]):
            raise BackupError("the database has another schema; use one without tables")
    command.upgrade(alembic_config(), manifest["schema"])
    with psycopg.connect(settings.database_url) as connection:
        # Keeps every other writer, and a second restore, out until the commit.
        connection.execute("LOCK TABLE accounts IN EXCLUSIVE MODE")
        if connection.execute("SELECT 1 FROM accounts LIMIT 1").fetchone():
            raise BackupError("the database is in use: it holds accounts; restore into an empty one")
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
    """The blobs that rows name, and the checkpoints of active jobs."""
    yield from session.scalars(select(Dataset.blob))
    yield from filter(None, session.scalars(select(Key.weights_blob).where(Key.destroyed_at.is_(None))))
    for table in (Cell, Key):
        for id in session.scalars(
            select(table.id).where(table.checkpoint_wrapped_key.is_not(None), table.status.in_(ACTIVE))
        ):
            yield from blobs.list_recursive(f"checkpoints/{id}")


def _read_blob(blobs: BlobStore, name: str, buffer: BinaryIO) -> None:
    """Read a whole blob into `buffer`, before any of it is written to the archive. Raises FileNotFoundError, OSError.

    An object store serves a large object in several requests: between two of them the blob may be deleted, or replaced,
    which fails the read.
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
    """The schema revision of a database; None without tables."""
    if connection.execute("SELECT to_regclass('alembic_version')").fetchone()[0] is None:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return row and str(row[0])


# --- the file ---


class _ArchiveWriter:
    """A tar whose last member has the counts and the digest of all others."""

    def __init__(self, out: BinaryIO) -> None:
        self._tar = tarfile.open(fileobj=out, mode="w|")  # noqa: SIM115 - `close` closes it
        self._digest = hashlib.sha256()
        self.member_counts: Counter[str] = Counter()

    def add(self, name: str, data: bytes) -> None:
        self.copy(name, io.BytesIO(data))

    def copy(self, name: str, file: BinaryIO) -> None:
        member = tarfile.TarInfo(name)
        member.size = file.seek(0, io.SEEK_END)
        file.seek(0)
        self._tar.addfile(member, cast(BinaryIO, _HashingReader(file, self._digest)))  # tarfile only calls `read`
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
            self._tar = tarfile.open(fileobj=source, mode="r|")  # noqa: SIM115 - the caller closes `source`
        except tarfile.TarError:
            raise BackupError("this file is not a backup of Unveil: use a file that `unveil backup` wrote") from None

    def manifest(self) -> dict[str, Any]:
        """Read the first member. Raises BackupError."""
        name, file = self._next_member()
        manifest = json.load(file) if name == "manifest.json" else {}
        if manifest.get("format") != _FORMAT_VERSION:
            raise BackupError(
                "this file is not a backup of Unveil, or has an unknown format: use a file that `unveil backup` wrote"
            )
        return dict(manifest)

    def __iter__(self) -> Iterator[tuple[str, BinaryIO]]:
        """Name and content of the members; read each whole before the next. Raises BackupError for a damaged file."""
        while True:
            counts_before_end, digest_before_end = dict(self.member_counts), self._digest.hexdigest()
            name, file = self._next_member()
            if name == "end.json":
                if json.load(file) != {"count": counts_before_end, "sha256": digest_before_end}:
                    raise BackupError("the file is damaged: use another copy or backup")
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
        return member.name, cast(BinaryIO, _HashingReader(file, self._digest))  # only `read` is called


class _HashingReader:
    """A file that updates a digest with the bytes read from it."""

    def __init__(self, file: Any, digest: Any) -> None:
        self._file, self._digest = file, digest

    def read(self, size: int = -1) -> bytes:
        try:
            data: bytes = self._file.read(size)
        except tarfile.TarError:
            raise BackupError(_TRUNCATED_MESSAGE) from None
        self._digest.update(data)
        return data
