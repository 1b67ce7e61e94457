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
from unveil.app.db.session import one_session
from unveil.app.db.tables import Base, Cell, DashboardSession, Dataset, Key, SignInCode, Worker
from unveil.app.security.envelope import KeyRing
from unveil.app.security.key_rotation import masters_in_use
from unveil.app.settings import Settings
from unveil.app.storage import Blobs
from unveil.models.core.version import __version__

_FORMAT = 1
_CUT_OFF = "the file was cut off, its end is missing: take another copy or backup"
_PIECE = 32 * 2**20
_TRIES = 3  # to read a checkpoint, which is replaced once a minute
# What is true of running processes, and what lets somebody in for a short while: nobody is to come in twice.
_LEFT_OUT = (Worker, SignInCode, DashboardSession)
_TABLES = {
    table.name: [column.name for column in table.columns]
    for table in Base.metadata.sorted_tables  # what others refer to comes first
    if table not in [left.__table__ for left in _LEFT_OUT]
}
Tell = Callable[[str], None]


class Refused(Exception):
    """Nothing was changed; the message says why."""


def backup(settings: Settings, ring: KeyRing, out: BinaryIO, tell: Tell) -> None:
    """Write it all to `out`. Raises Refused, psycopg.Error, OSError."""
    blobs, archive = Blobs(settings), _Writer(out)
    with one_session(settings, isolation_level="REPEATABLE READ") as session:
        schema = _schema(session.connection().connection.driver_connection)
        if schema != _head():
            raise Refused(f"the schema is {schema} and not {_head()}: unveil migrate")
        manifest = {
            "format": _FORMAT, "unveil": __version__, "schema": schema, "tables": _TABLES,
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "ring": {name: ring.mark(name) for name in ("pepper", *map(str, masters_in_use(session)))},
        }  # fmt: skip
        archive.add("manifest.json", json.dumps(manifest, indent=1).encode())
        connection: Any = session.connection().connection.driver_connection
        for table, columns in _TABLES.items():
            with connection.cursor().copy(_copy(table, columns, "TO STDOUT")) as copy:
                for number, piece in enumerate(_pieces(copy)):
                    archive.add(f"tables/{table}/{number:06}", piece)
        names = list(_named(session, blobs))
    gone = 0
    for name in names:
        with TemporaryFile() as held:
            try:
                _hold(blobs, name, held)
            except FileNotFoundError:
                gone += 1
                continue
            archive.copy(f"blobs/{name}", held)
    archive.close()
    deleted = f"; {gone} blobs were deleted meanwhile" if gone else ""
    tell(f"wrote {len(_TABLES)} tables and {archive.count['blobs']} blobs{deleted}")


def restore(settings: Settings, ring: KeyRing, source: BinaryIO, tell: Tell) -> None:
    """Fill an empty database, and the blob store, from what `backup` wrote. Raises Refused, psycopg.Error, OSError."""
    archive, blobs = _Reader(source), Blobs(settings)
    manifest = archive.manifest()
    if manifest["schema"] not in {revision.revision for revision in _scripts().walk_revisions()}:
        raise Refused(f"Unveil {manifest['unveil']} made this file, which is newer: install that version")
    missing = [name for name, mark in manifest["ring"].items() if ring.mark(name) != mark]
    if missing:
        raise Refused(
            f"the key ring is not the one that this was sealed under ({', '.join(missing)} differ or are missing): "
            "give the copy of it that was kept with this backup"
        )
    with psycopg.connect(settings.database_url) as connection:
        if _schema(connection) not in (None, manifest["schema"]):
            raise Refused("the database is of another version; give one without any tables")
    command.upgrade(alembic_config(), manifest["schema"])
    with psycopg.connect(settings.database_url) as connection:
        # nobody else writes, nor another restore, until this has ended
        connection.execute("LOCK TABLE accounts IN EXCLUSIVE MODE")
        if connection.execute("SELECT 1 FROM accounts LIMIT 1").fetchone():
            raise Refused("the database is in use: it holds accounts. Restore into an empty one")
        with ExitStack() as copies:
            copying, copy = "", None
            for name, file in archive:
                kind, _, rest = name.partition("/")
                if kind == "blobs":
                    blobs.save(rest, file)
                    continue
                table = rest.partition("/")[0]
                if table != copying:
                    copies.close()
                    statement = _copy(table, manifest["tables"][table], "FROM STDIN")
                    copying, copy = table, copies.enter_context(connection.cursor().copy(statement))
                assert copy is not None
                while piece := file.read(2**20):
                    copy.write(piece)
    command.upgrade(alembic_config(), "head")
    tell(f"restored {len(manifest['tables'])} tables and {archive.count['blobs']} blobs of {manifest['made_at']}")


def _named(session: Session, blobs: Blobs) -> Iterator[str]:
    """The blobs that rows name, and the checkpoints of jobs that are not over."""
    yield from session.scalars(select(Dataset.blob))
    yield from filter(None, session.scalars(select(Key.blob).where(Key.destroyed_at.is_(None))))
    for table in (Cell, Key):
        for id in session.scalars(select(table.id).where(table.checkpoint_lock.is_not(None), table.status.in_(ACTIVE))):
            yield from blobs.below(f"checkpoints/{id}")


def _hold(blobs: Blobs, name: str, held: BinaryIO) -> None:
    """A blob, whole before anything of it is written. Raises FileNotFoundError, OSError.

    An object store looks for an object when a piece of it is asked for: a delete comes in between, and a checkpoint
    that is replaced, which is an error there.
    """
    for tries_left in reversed(range(_TRIES)):
        held.seek(0)
        held.truncate()
        try:
            with blobs.open(name) as file:
                shutil.copyfileobj(file, held, 2**20)
            return
        except FileNotFoundError:
            raise
        except OSError:
            if not tries_left:
                raise


def _copy(table: str, columns: list[str], way: str) -> sql.Composed:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    return sql.SQL("COPY {} ({}) {} (FORMAT BINARY)").format(sql.Identifier(table), names, sql.SQL(way))


def _pieces(copy: Any) -> Iterator[bytes]:
    held = io.BytesIO()
    for block in copy:
        held.write(block)
        if held.tell() >= _PIECE:
            yield held.getvalue()
            held = io.BytesIO()
    yield held.getvalue()


def _schema(connection: Any) -> str | None:
    """The revision of a database; None where it has no tables."""
    if connection.execute("SELECT to_regclass('alembic_version')").fetchone()[0] is None:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return row and str(row[0])


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(alembic_config())


def _head() -> str | None:
    return _scripts().get_current_head()


# --- the file ---


class _Writer:
    """A tar that says at its end what it held."""

    def __init__(self, out: BinaryIO) -> None:
        self._tar = tarfile.open(fileobj=out, mode="w|")  # noqa: SIM115 - `close` does
        self._sum = hashlib.sha256()
        self.count: Counter[str] = Counter()

    def add(self, name: str, data: bytes) -> None:
        self.copy(name, io.BytesIO(data))

    def copy(self, name: str, file: BinaryIO) -> None:
        member = tarfile.TarInfo(name)
        member.size = file.seek(0, io.SEEK_END)
        file.seek(0)
        self._tar.addfile(member, cast(BinaryIO, _Summed(file, self._sum)))  # it asks for `read` alone
        self.count[name.partition("/")[0]] += 1

    def close(self) -> None:
        end = {"count": self.count, "sha256": self._sum.hexdigest()}
        self.add("end.json", json.dumps(end).encode())
        self._tar.close()


class _Reader:
    def __init__(self, source: BinaryIO) -> None:
        self._sum = hashlib.sha256()
        self.count: Counter[str] = Counter()
        try:
            self._tar = tarfile.open(fileobj=source, mode="r|")  # noqa: SIM115 - it holds nothing
        except tarfile.TarError:
            raise Refused("this is no backup of Unveil: give a file that `unveil backup` wrote") from None

    def manifest(self) -> dict[str, Any]:
        """To be read first. Raises Refused."""
        name, file = self._next()
        found = json.load(file) if name == "manifest.json" else {}
        if found.get("format") != _FORMAT:
            raise Refused(
                "this is no backup of Unveil, or one of another version: give a file that `unveil backup` wrote"
            )
        return dict(found)

    def __iter__(self) -> Iterator[tuple[str, BinaryIO]]:
        """What it holds, each to be read whole before the next. Raises Refused where some of it is missing."""
        while True:
            counted, summed = dict(self.count), self._sum.hexdigest()
            name, file = self._next()
            if name == "end.json":
                if json.load(file) != {"count": counted, "sha256": summed}:
                    raise Refused(
                        "the file is damaged, what it holds is not what was written: take another copy or backup"
                    )
                return
            yield name, file

    def _next(self) -> tuple[str, BinaryIO]:
        try:
            member = self._tar.next()
        except tarfile.TarError:
            member = None
        file = None if member is None else self._tar.extractfile(member)
        if member is None or file is None:
            raise Refused(_CUT_OFF)
        self.count[member.name.partition("/")[0]] += 1
        return member.name, cast(BinaryIO, _Summed(file, self._sum))  # its readers ask for `read` alone


class _Summed:
    """A file whose bytes are counted into a sum as they are read."""

    def __init__(self, file: Any, into: Any) -> None:
        self._file, self._into = file, into

    def read(self, size: int = -1) -> bytes:
        try:
            data: bytes = self._file.read(size)
        except tarfile.TarError:
            raise Refused(_CUT_OFF) from None
        self._into.update(data)
        return data
