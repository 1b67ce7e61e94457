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

from unveil.app.db.tables import Base, Cell, Evaluation, EvaluationArtifact, IdempotencyRecord, Key, ProcessHeartbeat
from unveil.app.security.envelope import DecryptionError, Keyring, parse_keyring

_BATCH_SIZE = 200
# A process that lost the database goes on for ten minutes with what it has sealed: worker/jobs.py.
_PROCESS_GONE_AFTER_S = 15 * 60.0
_LOCK_TIMEOUT_S = 5


class RotationIncomplete(Exception):
    """The older masters must stay; the message says why. Everything else is done, and another run goes on."""


@dataclass(frozen=True)
class EncryptedColumn:
    """Where sealed values lie, and what their envelopes are bound to."""

    table: type[Base]
    column: ColumnElement[Any]
    purpose: str
    owner: ColumnElement[Any]
    id: ColumnElement[Any]
    to_values: Callable[[bytes], dict[str, Any]]  # the columns that hold a value
    join: type[Base] | None = None

    @property
    def primary_key(self) -> tuple[Any, ...]:
        return tuple(getattr(self.table, column.name) for column in inspect(self.table).primary_key)

    def rows(self) -> Select[Any]:
        query = (
            select(*self.primary_key, self.column, self.owner, self.id)
            .where(self.column.is_not(None))
            .order_by(*self.primary_key)
        )
        if self.join is not None:
            query = query.select_from(self.table).join(self.join)
        return query


ENCRYPTED_COLUMNS = (
    EncryptedColumn(
        Key, Key.sealed.expression, "key", Key.account_id.expression, Key.id.expression, lambda v: {"sealed": v}
    ),
    *(
        EncryptedColumn(
            table,
            table.checkpoint_wrapped_key.expression,
            "checkpoints",
            owner.expression,
            table.id.expression,
            lambda v: {"checkpoint_wrapped_key": v},
            join,
        )
        for table, owner, join in ((Key, Key.account_id, None), (Cell, Evaluation.account_id, Evaluation))
    ),
    EncryptedColumn(
        Cell,
        Cell.recovered_key.expression,
        "recovered-key",
        Evaluation.account_id.expression,
        Cell.id.expression,
        lambda v: {"recovered_key": v},
        Evaluation,
    ),
    EncryptedColumn(
        EvaluationArtifact,
        EvaluationArtifact.sealed.expression,
        "shared",
        Evaluation.account_id.expression,
        EvaluationArtifact.evaluation_id + literal("/") + EvaluationArtifact.name,
        lambda v: {"sealed": v},
        Evaluation,
    ),
    EncryptedColumn(
        IdempotencyRecord,
        func.decode(IdempotencyRecord.body["sealed"].astext, "base64"),
        "idempotency",
        IdempotencyRecord.account_id.expression,
        IdempotencyRecord.key.expression,
        lambda v: {"body": {"sealed": base64.b64encode(v).decode()}},
    ),
)


def master_versions_in_use(session: Session) -> list[int]:
    """The numbers of the master keys that something is sealed under."""
    versions: set[bytes] = set()
    for encrypted in ENCRYPTED_COLUMNS:
        number = func.substring(encrypted.column, 1, 2)
        versions |= set(session.scalars(select(number).where(encrypted.column.is_not(None)).distinct()))
    return sorted(int.from_bytes(number, "big") for number in versions)


@contextmanager
def exclusive_rotation(file: Path) -> Iterator[None]:
    """Nobody else changes the ring meanwhile: two at once would make two master keys of one number, and one of them
    would be lost with all that is sealed under it. Raises Unfinished, OSError.
    """
    folder = os.open(file.parent, os.O_RDONLY)  # the file itself is replaced
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RotationIncomplete(
                f"another command changes {file} just now; run this again when it is through"
            ) from None
        yield
    finally:
        os.close(folder)


def rotate(
    sessions: sessionmaker[Session], file: Path, on_progress: Callable[[str], None], *, timeout_s: float = 60.0
) -> int:
    """Begin, or go on with, a rotation; the number of values rewrapped. Raises Unfinished, OSError, ValueError."""
    with exclusive_rotation(file):
        return _rotate(sessions, file, on_progress, timeout_s)


def _rotate(sessions: sessionmaker[Session], file: Path, on_progress: Callable[[str], None], timeout_s: float) -> int:
    keyring = parse_keyring(file.read_text())
    _list_stale_processes(
        sessions, keyring.primary_version
    )  # raises, where there is no database, before the ring is touched
    if len(keyring.master_keys) == 1:
        keyring = keyring.with_new_master_key()
        write_keyring_file(file, keyring)
        on_progress(f"master key {keyring.primary_version} seals from now on")
    else:
        on_progress(f"going on: master key {keyring.primary_version} seals")
    _wait_for_processes(sessions, keyring.primary_version, on_progress, timeout_s)
    count, unreadable = _rewrap_all(sessions, keyring)
    on_progress(f"{count} values came under master key {keyring.primary_version}")
    if unreadable:
        raise RotationIncomplete(
            f"{len(unreadable)} values do not open: {', '.join(unreadable[:5])}; restore or delete them, and run again"
        )
    _drop_old_master_keys(sessions, file, keyring)
    on_progress(
        f"the older master keys have left {file}; keep a copy of the old ring as long as you keep back-ups under it"
    )
    return count


def write_keyring_file(file: Path, keyring: Keyring) -> None:
    """Whole or not at all, and never readable by others."""
    partial = file.with_name(f"{file.name}.part")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(keyring.dumps())
        out.flush()
        os.fsync(out.fileno())
    owner = file.stat()
    os.chown(partial, owner.st_uid, owner.st_gid)  # the service may run as another user than the operator
    partial.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _wait_for_processes(
    sessions: sessionmaker[Session], primary_version: int, on_progress: Callable[[str], None], timeout_s: float
) -> None:
    """Until every process seals with the new master: what one still seals under the old must not lose it."""
    deadline, announced = time.monotonic() + timeout_s, False
    while stale := _list_stale_processes(sessions, primary_version):
        names = ", ".join(stale)
        if time.monotonic() > deadline:
            raise RotationIncomplete(
                f"{names} still seal under an older master key: they read another copy of the ring (give it to them "
                f"and restart them), or died less than {_PROCESS_GONE_AFTER_S / 60:.0f} minutes ago; "
                "then run this again"
            )
        if not announced:
            on_progress(f"waiting until {names} have read the ring again")
            announced = True
        time.sleep(0.2)


def _list_stale_processes(sessions: sessionmaker[Session], primary_version: int) -> list[str]:
    max_age = func.make_interval(0, 0, 0, 0, 0, 0, _PROCESS_GONE_AFTER_S)
    query = select(ProcessHeartbeat.name).where(
        ProcessHeartbeat.master_key_version.is_distinct_from(primary_version),
        ProcessHeartbeat.seen_at > func.clock_timestamp() - max_age,
    )
    with sessions() as session:
        return sorted(session.scalars(query))


def _rewrap_all(sessions: sessionmaker[Session], keyring: Keyring) -> tuple[int, list[str]]:
    """How many were rewrapped, and the names of those that do not open."""
    total = 0
    while True:
        results = [_rewrap(sessions, place, keyring) for place in ENCRYPTED_COLUMNS]
        count = sum(done for done, _ in results)
        total += count
        if count == 0:  # a whole look found nothing to do, and what is written meanwhile is under the new master
            return total, [name for _, unreadable in results for name in unreadable]


def _rewrap(sessions: sessionmaker[Session], encrypted: EncryptedColumn, keyring: Keyring) -> tuple[int, list[str]]:
    count, unreadable = 0, []
    outdated = encrypted.rows().where(_is_under_old_key(encrypted, keyring)).limit(_BATCH_SIZE)
    batch = outdated
    while True:
        with sessions.begin() as session:
            rows = session.execute(batch).all()
            for *key, sealed, owner, id in rows:
                try:
                    value = keyring.rewrap(sealed, purpose=encrypted.purpose, owner=owner, id=id)
                except DecryptionError:
                    unreadable.append(f"{encrypted.table.__tablename__} {'/'.join(key)}")
                    continue
                matches_row = [column == part for column, part in zip(encrypted.primary_key, key, strict=True)]
                # one that was changed meanwhile is found by the next look
                session.execute(
                    update(encrypted.table)
                    .where(*matches_row, encrypted.column == sealed)
                    .values(encrypted.to_values(value))
                )
                count += 1
        if not rows:
            return count, unreadable
        last = rows[-1][: len(encrypted.primary_key)]
        batch = outdated.where(tuple_(*encrypted.primary_key) > tuple_(*map(literal, last)))


def _is_under_old_key(encrypted: EncryptedColumn, keyring: Keyring) -> ColumnElement[bool]:
    return func.substring(encrypted.column, 1, 2) != keyring.primary_version.to_bytes(2, "big")


def _drop_old_master_keys(sessions: sessionmaker[Session], file: Path, keyring: Keyring) -> None:
    """Let the older masters go, unless somebody has just written under one. Raises Unfinished."""
    tables = ", ".join(place.table.__tablename__ for place in ENCRYPTED_COLUMNS)
    try:
        with sessions.begin() as session:
            session.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_S}s'"))
            session.execute(text(f"LOCK TABLE {tables} IN SHARE MODE"))
            if any(
                session.execute(place.rows().where(_is_under_old_key(place, keyring)).limit(1)).all()
                for place in ENCRYPTED_COLUMNS
            ):
                raise RotationIncomplete("something was sealed under an older master key just now; run this again")
            write_keyring_file(file, keyring.with_primary_master_key_only())
    except OSError as error:
        raise RotationIncomplete(
            f"nothing is left under the older master keys, but {file} cannot be written here ({error.strerror}): "
            f"remove the lines of all but {keyring.primary_version} from the ring yourself"
        ) from None
    except OperationalError:
        raise RotationIncomplete("the tables were busy all the time; run this again") from None
