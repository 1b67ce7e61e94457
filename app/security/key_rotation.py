"""A new master key for all that is sealed, while the service runs.

The key ring gets a new master, which seals from then on: every process reads the file again when it changes, and says
in the table `workers` with which master it seals. Then each sealed value is rewrapped by compare and set, over and
over until none is left. Only then, with writers held off for a moment, do the older masters leave the ring. Killed at
any point, the next run goes on where this one was; nothing is unreadable in between.
"""

from __future__ import annotations

import base64
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Select, func, inspect, literal, select, text, tuple_, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from unveil.app.db.tables import Base, Cell, Evaluation, Idempotency, Key, Shared, Worker
from unveil.app.security.envelope import KeyRing, Unreadable, parse_key_ring

_BATCH = 200
# A process that lost the database goes on for ten minutes with what it has sealed: worker/jobs.py.
_MAY_COME_BACK_S = 15 * 60.0
_HELD_OFF_S = 5


class Unfinished(Exception):
    """The older masters must stay; the message says why. Everything else is done, and another run goes on."""


@dataclass(frozen=True)
class Place:
    """Where sealed values lie, and what their envelopes are bound to."""

    table: type[Base]
    sealed: ColumnElement[Any]
    purpose: str
    owner: ColumnElement[Any]
    id: ColumnElement[Any]
    written: Callable[[bytes], dict[str, Any]]  # the columns that hold a value
    join: type[Base] | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        return tuple(getattr(self.table, column.name) for column in inspect(self.table).primary_key)

    def rows(self) -> Select[Any]:
        query = select(*self.key, self.sealed, self.owner, self.id).where(self.sealed.is_not(None)).order_by(*self.key)
        if self.join is not None:
            query = query.select_from(self.table).join(self.join)
        return query


PLACES = (
    Place(Key, Key.sealed.expression, "key", Key.account_id.expression, Key.id.expression, lambda v: {"sealed": v}),
    *(
        Place(table, table.checkpoint_lock.expression, "checkpoints", owner.expression, table.id.expression,
              lambda v: {"checkpoint_lock": v}, join)
        for table, owner, join in ((Key, Key.account_id, None), (Cell, Evaluation.account_id, Evaluation))
    ),
    Place(
        Cell, Cell.recovered.expression, "recovered-key", Evaluation.account_id.expression, Cell.id.expression,
        lambda v: {"recovered": v}, Evaluation,
    ),
    Place(
        Shared, Shared.sealed.expression, "shared", Evaluation.account_id.expression,
        Shared.evaluation_id + literal("/") + Shared.name, lambda v: {"sealed": v}, Evaluation,
    ),
    Place(
        Idempotency, func.decode(Idempotency.body["sealed"].astext, "base64"), "idempotency",
        Idempotency.account_id.expression, Idempotency.key.expression,
        lambda v: {"body": {"sealed": base64.b64encode(v).decode()}},
    ),
)  # fmt: skip


def masters_in_use(session: Session) -> list[int]:
    """The numbers of the master keys that something is sealed under."""
    found: set[bytes] = set()
    for place in PLACES:
        number = func.substring(place.sealed, 1, 2)
        found |= set(session.scalars(select(number).where(place.sealed.is_not(None)).distinct()))
    return sorted(int.from_bytes(number, "big") for number in found)


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Nobody else changes the ring meanwhile: two at once would make two master keys of one number, and one of them
    would be lost with all that is sealed under it. Raises Unfinished, OSError.
    """
    folder = os.open(file.parent, os.O_RDONLY)  # the file itself is replaced
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unfinished(f"another command changes {file} just now; run this again when it is through") from None
        yield
    finally:
        os.close(folder)


def rotate(
    sessions: sessionmaker[Session], file: Path, tell: Callable[[str], None], *, patience_s: float = 60.0
) -> int:
    """Begin, or go on with, a rotation; the number of values rewrapped. Raises Unfinished, OSError, ValueError."""
    with alone(file):
        return _rotate(sessions, file, tell, patience_s)


def _rotate(sessions: sessionmaker[Session], file: Path, tell: Callable[[str], None], patience_s: float) -> int:
    ring = parse_key_ring(file.read_text())
    _late(sessions, ring.current)  # raises, where there is no database, before the ring is touched
    if len(ring.masters) == 1:
        ring = ring.with_new_master()
        write_ring(file, ring)
        tell(f"master key {ring.current} seals from now on")
    else:
        tell(f"going on: master key {ring.current} seals")
    _wait_for_processes(sessions, ring.current, tell, patience_s)
    count, unreadable = _rewrap_all(sessions, ring)
    tell(f"{count} values came under master key {ring.current}")
    if unreadable:
        raise Unfinished(
            f"{len(unreadable)} values do not open: {', '.join(unreadable[:5])}; restore or delete them, and run again"
        )
    _drop(sessions, file, ring)
    tell(f"the older master keys have left {file}; keep a copy of the old ring as long as you keep back-ups under it")
    return count


def write_ring(file: Path, ring: KeyRing) -> None:
    """Whole or not at all, and never readable by others."""
    aside = file.with_name(f"{file.name}.part")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(ring.dump())
        out.flush()
        os.fsync(out.fileno())
    owner = file.stat()
    os.chown(aside, owner.st_uid, owner.st_gid)  # the service may run as another user than the operator
    aside.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _wait_for_processes(
    sessions: sessionmaker[Session], current: int, tell: Callable[[str], None], patience_s: float
) -> None:
    """Until every process seals with the new master: what one still seals under the old must not lose it."""
    until, told = time.monotonic() + patience_s, False
    while late := _late(sessions, current):
        names = ", ".join(late)
        if time.monotonic() > until:
            raise Unfinished(
                f"{names} still seal under an older master key: they read another copy of the ring (give it to them "
                f"and restart them), or died less than {_MAY_COME_BACK_S / 60:.0f} minutes ago; then run this again"
            )
        if not told:
            tell(f"waiting until {names} have read the ring again")
            told = True
        time.sleep(0.2)


def _late(sessions: sessionmaker[Session], current: int) -> list[str]:
    age = func.make_interval(0, 0, 0, 0, 0, 0, _MAY_COME_BACK_S)
    query = select(Worker.name).where(
        Worker.ring.is_distinct_from(current), Worker.seen_at > func.clock_timestamp() - age
    )
    with sessions() as session:
        return sorted(session.scalars(query))


def _rewrap_all(sessions: sessionmaker[Session], ring: KeyRing) -> tuple[int, list[str]]:
    """How many were rewrapped, and the names of those that do not open."""
    total = 0
    while True:
        found = [_rewrap(sessions, place, ring) for place in PLACES]
        count = sum(done for done, _ in found)
        total += count
        if count == 0:  # a whole look found nothing to do, and what is written meanwhile is under the new master
            return total, [name for _, unreadable in found for name in unreadable]


def _rewrap(sessions: sessionmaker[Session], place: Place, ring: KeyRing) -> tuple[int, list[str]]:
    count, unreadable = 0, []
    old = place.rows().where(_is_old(place, ring)).limit(_BATCH)
    batch = old
    while True:
        with sessions.begin() as session:
            rows = session.execute(batch).all()
            for *key, sealed, owner, id in rows:
                try:
                    value = ring.rewrap(sealed, purpose=place.purpose, owner=owner, id=id)
                except Unreadable:
                    unreadable.append(f"{place.table.__tablename__} {'/'.join(key)}")
                    continue
                same = [column == part for column, part in zip(place.key, key, strict=True)]
                # one that was changed meanwhile is found by the next look
                session.execute(update(place.table).where(*same, place.sealed == sealed).values(place.written(value)))
                count += 1
        if not rows:
            return count, unreadable
        last = rows[-1][: len(place.key)]
        batch = old.where(tuple_(*place.key) > tuple_(*map(literal, last)))


def _is_old(place: Place, ring: KeyRing) -> ColumnElement[bool]:
    return func.substring(place.sealed, 1, 2) != ring.current.to_bytes(2, "big")


def _drop(sessions: sessionmaker[Session], file: Path, ring: KeyRing) -> None:
    """Let the older masters go, unless somebody has just written under one. Raises Unfinished."""
    tables = ", ".join(place.table.__tablename__ for place in PLACES)
    try:
        with sessions.begin() as session:
            session.execute(text(f"SET LOCAL lock_timeout = '{_HELD_OFF_S}s'"))
            session.execute(text(f"LOCK TABLE {tables} IN SHARE MODE"))
            if any(session.execute(place.rows().where(_is_old(place, ring)).limit(1)).all() for place in PLACES):
                raise Unfinished("something was sealed under an older master key just now; run this again")
            write_ring(file, ring.with_newest_master_only())
    except OSError as error:
        raise Unfinished(
            f"nothing is left under the older master keys, but {file} cannot be written here ({error.strerror}): "
            f"remove the lines of all but {ring.current} from the ring yourself"
        ) from None
    except OperationalError:
        raise Unfinished("the tables were busy all the time; run this again") from None
