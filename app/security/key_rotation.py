"""Rotates the master key while the service runs.

1. Add a new master key to the keyring file. Every process reloads the file when it changes, encrypts under the new
   master key from then on, and reports its version in `process_heartbeats`.
2. Once all processes use it, rewrap every data key by compare-and-set until no envelope is under an older master key.
3. Block writers for a moment, check again, and remove the older master keys from the file.

A rotation may be killed at any point: the next run continues it, and every envelope decrypts in between.
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
from typing import Any, cast

from sqlalchemy import ColumnElement, Engine, Select, func, inspect, literal, select, text, tuple_, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import InstrumentedAttribute, Session, sessionmaker

from unveil.app.db.tables import (
    Base,
    Cell,
    Evaluation,
    EvaluationArtifact,
    IdempotencyRecord,
    Key,
    ProcessHeartbeat,
    Webhook,
)
from unveil.app.security.envelope import DecryptionError, Keyring, parse_keyring
from unveil.models.core.files import replace_file, sync_folder

_BATCH_SIZE = 200
# A worker that lost the database keeps a finished result for ten minutes before it gives up: worker/jobs.py.
_PROCESS_GONE_AFTER_S = 15 * 60.0
_LOCK_TIMEOUT_S = 5


class RotationIncomplete(Exception):
    """The older master keys must stay, for the reason in the message. Another run continues the rotation."""


@dataclass(frozen=True)
class EncryptedColumn:
    """A column of envelopes, or of their wrapped data keys, and what its associated data is made of."""

    column: InstrumentedAttribute[Any]
    purpose: str
    owner: InstrumentedAttribute[str]
    id: ColumnElement[str] | InstrumentedAttribute[str]

    @property
    def table(self) -> type[Base]:
        return cast("type[Base]", self.column.class_)

    @property
    def envelope(self) -> ColumnElement[Any]:
        return self.column.expression

    @property
    def primary_key(self) -> tuple[Any, ...]:
        return tuple(getattr(self.table, column.name) for column in inspect(self.table).primary_key)

    def to_value(self, envelope: bytes) -> Any:
        return envelope

    def rows(self) -> Select[Any]:
        query = (
            select(*self.primary_key, self.envelope, self.owner, self.id)
            .where(self.envelope.is_not(None))
            .order_by(*self.primary_key)
        )
        if self.owner.class_ is not self.table:
            query = query.select_from(self.table).join(self.owner.class_)
        return query


class EncryptedBody(EncryptedColumn):
    """A JSON column of the form {"sealed": envelope in base64}."""

    @property
    def envelope(self) -> ColumnElement[Any]:
        return func.decode(self.column["sealed"].astext, "base64")

    def to_value(self, envelope: bytes) -> Any:
        return {"sealed": base64.b64encode(envelope).decode()}


ENCRYPTED_COLUMNS = (
    EncryptedColumn(Key.encrypted_secret, "key", Key.account_id, Key.id),
    EncryptedColumn(Key.wrapped_key, "key", Key.account_id, Key.id),
    EncryptedColumn(Key.checkpoint_wrapped_key, "checkpoints", Key.account_id, Key.id),
    EncryptedColumn(Cell.checkpoint_wrapped_key, "checkpoints", Evaluation.account_id, Cell.id),
    EncryptedColumn(
        EvaluationArtifact.sealed,
        "shared",
        Evaluation.account_id,
        EvaluationArtifact.evaluation_id + literal("/") + EvaluationArtifact.name,
    ),
    EncryptedColumn(Webhook.encrypted_secret, "webhook", Webhook.account_id, Webhook.id),
    EncryptedBody(IdempotencyRecord.body, "idempotency", IdempotencyRecord.account_id, IdempotencyRecord.key),
)


def master_versions_in_use(session: Session) -> list[int]:
    """The versions of the master keys that at least one envelope is under."""
    versions: set[bytes] = set()
    for encrypted in ENCRYPTED_COLUMNS:
        number = func.substring(encrypted.envelope, 1, 2)
        versions |= set(session.scalars(select(number).where(encrypted.envelope.is_not(None)).distinct()))
    return sorted(int.from_bytes(number, "big") for number in versions)


@contextmanager
def exclusive_rotation(file: Path) -> Iterator[None]:
    """Lock the keyring against other commands: two at once would create two master keys of one version, lose one of
    them, and with it everything encrypted under it. Raises RotationIncomplete, OSError.
    """
    folder = os.open(file.parent, os.O_RDONLY)  # locks the folder, because the file is replaced
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RotationIncomplete(
                f"another command is changing {file}; run this again when it has finished"
            ) from None
        yield
    finally:
        os.close(folder)


def rotate(
    sessions: sessionmaker[Session],
    file: Path,
    on_progress: Callable[[str], None],
    *,
    timeout_s: float = 60.0,
    restart: bool = False,
) -> int:
    """Start or continue a rotation; return the number of rewrapped values.

    restart: finish an interrupted rotation first, then rotate to a master key that is new now. Values that were deleted
    since that rotation began may have been under its master key. Raises RotationIncomplete, OSError, ValueError.
    """
    with exclusive_rotation(file):
        count = 0
        if restart and len(parse_keyring(file.read_text()).master_keys) > 1:
            count = _rotate(sessions, file, on_progress, timeout_s)
        return count + _rotate(sessions, file, on_progress, timeout_s)


def _rotate(sessions: sessionmaker[Session], file: Path, on_progress: Callable[[str], None], timeout_s: float) -> int:
    keyring = parse_keyring(file.read_text())
    # Without a database this raises before the keyring is changed.
    _list_stale_processes(sessions, keyring.primary_version)
    if len(keyring.master_keys) == 1:
        keyring = keyring.with_new_master_key()
        write_keyring_file(file, keyring)
        on_progress(f"added master key {keyring.primary_version}, which encrypts from now on")
    else:
        on_progress(f"continuing: master key {keyring.primary_version} encrypts")
    _wait_for_processes(sessions, keyring.primary_version, on_progress, timeout_s)
    count, unreadable = _rewrap_all(sessions, keyring)
    on_progress(f"rewrapped {count} values under master key {keyring.primary_version}")
    if unreadable:
        raise RotationIncomplete(
            f"{len(unreadable)} values do not decrypt: {', '.join(unreadable[:5])}; restore or delete them, "
            "then run this again"
        )
    _drop_old_master_keys(sessions, file, keyring)
    on_progress(f"removed the older master keys from {file}")
    return count


def vacuum_keys(engine: Engine, on_progress: Callable[[str], None]) -> None:
    """Write the table of keys anew, without the rows that updates left behind. Raises RotationIncomplete."""
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"SET lock_timeout = '{_LOCK_TIMEOUT_S}s'"))
            connection.execute(text(f"VACUUM (FULL) {Key.__tablename__}"))
            connection.execute(text("RESET lock_timeout"))
    except OperationalError:
        raise RotationIncomplete(
            f"the master key is rotated, but the table of keys stayed locked for {_LOCK_TIMEOUT_S} s: "
            "run `VACUUM (FULL) keys` in the database"
        ) from None
    on_progress("vacuumed the table of keys")


def write_keyring_file(file: Path, keyring: Keyring) -> None:
    """Replace the file atomically; its content is never readable by other users."""
    owner = file.stat()
    with replace_file(file) as out:
        out.write(keyring.dumps().encode())
        os.fchown(out.fileno(), owner.st_uid, owner.st_gid)  # the service may run as a different user than this command
    sync_folder(file.parent)


def _wait_for_processes(
    sessions: sessionmaker[Session], primary_version: int, on_progress: Callable[[str], None], timeout_s: float
) -> None:
    """Wait until every process encrypts under the new master key: the old one must stay as long as one uses it."""
    deadline, announced = time.monotonic() + timeout_s, False
    while stale := _list_stale_processes(sessions, primary_version):
        names = ", ".join(stale)
        if time.monotonic() > deadline:
            raise RotationIncomplete(
                f"{names} still encrypt under an older master key: either they read another copy of the keyring "
                "(replace it and restart them), or they died less than "
                f"{_PROCESS_GONE_AFTER_S / 60:.0f} minutes ago (wait); then run this again"
            )
        if not announced:
            on_progress(f"waiting for {names} to reload the keyring")
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
    """The number of rewrapped values, and the names of those that do not decrypt."""
    total = 0
    while True:
        results = [_rewrap(sessions, column, keyring) for column in ENCRYPTED_COLUMNS]
        count = sum(done for done, _ in results)
        total += count
        if count == 0:  # a full pass found nothing, and every process writes under the new master key
            return total, [name for _, unreadable in results for name in unreadable]


def _rewrap(sessions: sessionmaker[Session], encrypted: EncryptedColumn, keyring: Keyring) -> tuple[int, list[str]]:
    count, unreadable = 0, []
    outdated = encrypted.rows().where(_is_under_old_key(encrypted, keyring)).limit(_BATCH_SIZE)
    batch = outdated
    while True:
        with sessions.begin() as session:
            rows = session.execute(batch).all()
            for *key, envelope, owner, id in rows:
                try:
                    rewrapped = keyring.rewrap(envelope, purpose=encrypted.purpose, owner=owner, id=id)
                except DecryptionError:
                    unreadable.append(f"{encrypted.table.__tablename__} {'/'.join(key)}")
                    continue
                matches_row = [column == part for column, part in zip(encrypted.primary_key, key, strict=True)]
                # The next pass finds a value that has changed since it was read.
                session.execute(
                    update(encrypted.table)
                    .where(*matches_row, encrypted.envelope == envelope)
                    .values({encrypted.column.key: encrypted.to_value(rewrapped)})
                )
                count += 1
        if not rows:
            return count, unreadable
        last = rows[-1][: len(encrypted.primary_key)]
        batch = outdated.where(tuple_(*encrypted.primary_key) > tuple_(*map(literal, last)))


def _is_under_old_key(encrypted: EncryptedColumn, keyring: Keyring) -> ColumnElement[bool]:
    return func.substring(encrypted.envelope, 1, 2) != keyring.primary_version.to_bytes(2, "big")


def _drop_old_master_keys(sessions: sessionmaker[Session], file: Path, keyring: Keyring) -> None:
    """Remove the older master keys, unless a process has just written under one. Raises RotationIncomplete."""
    tables = ", ".join(encrypted.table.__tablename__ for encrypted in ENCRYPTED_COLUMNS)
    try:
        with sessions.begin() as session:
            session.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_S}s'"))
            session.execute(text(f"LOCK TABLE {tables} IN SHARE MODE"))
            if any(
                session.execute(encrypted.rows().where(_is_under_old_key(encrypted, keyring)).limit(1)).all()
                for encrypted in ENCRYPTED_COLUMNS
            ):
                raise RotationIncomplete("a process has just written under an older master key; run this again")
            write_keyring_file(file, keyring.with_primary_master_key_only())
    except OSError as error:
        raise RotationIncomplete(
            f"no value is under an older master key, but {file} cannot be written here ({error.strerror}): "
            f"remove all master keys but {keyring.primary_version} from it by hand"
        ) from None
    except OperationalError:
        raise RotationIncomplete(f"the tables stayed locked for {_LOCK_TIMEOUT_S} s; run this again") from None
