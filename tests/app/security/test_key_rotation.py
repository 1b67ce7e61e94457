"""Rotation of the master key: every envelope decrypts before, during and after it, also after a run was killed."""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import LargeBinary, delete, func, select, text, update

from tests.factories import make_account, make_evaluation
from unveil.app.db.heartbeats import upsert_heartbeat
from unveil.app.db.ids import new_id
from unveil.app.db.job_states import Status
from unveil.app.db.session import async_engine
from unveil.app.db.tables import Base, Cell, EvaluationArtifact, IdempotencyRecord, Key, ProcessHeartbeat, Webhook
from unveil.app.local.servers import Postgres
from unveil.app.ops.heartbeat import send_heartbeats
from unveil.app.security import key_rotation
from unveil.app.security.envelope import DecryptionError, Keyring, load_keyring, new_keyring, parse_keyring
from unveil.app.security.key_rotation import (
    ENCRYPTED_COLUMNS,
    RotationIncomplete,
    rotate,
    vacuum_keys,
    write_keyring_file,
)
from unveil.app.settings import Settings
from unveil.worker.runtime import Runtime

NOT_ENCRYPTED = {
    "tokens.hash", "sign_in_codes.hash", "dashboard_sessions.hash", "shares.hash", "idempotency.fingerprint",
    "samples.plain", "samples.protected", "samples.reconstructed", "signing_keys.public_key",
    "image_sets.digest", "image_sets.pixels", "cell_images.originals", "cell_images.protected",
    "cell_images.reconstructed",
}  # fmt: skip


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    file = tmp_path / "ring"
    file.write_text(new_keyring().dumps())
    return settings.model_copy(update={"keyring_file": file})


@pytest.fixture
def file(settings: Settings) -> Path:
    assert settings.keyring_file is not None
    return settings.keyring_file


@pytest.fixture
def account(runtime: Runtime) -> str:
    return make_account(runtime.sessions)


def add_encrypted_rows(runtime: Runtime, account: str, keyring: Keyring, number: int = 0) -> None:
    """One envelope in every encrypted column."""
    evaluation, (cell,) = make_evaluation(runtime.sessions, account)
    key, trained_key, once = new_id("key"), new_id("key"), f"once-{number}"

    def seal(purpose: str, id: str) -> bytes:
        return keyring.seal(f"{purpose} {id}".encode(), purpose=purpose, owner=account, id=id)

    with runtime.sessions.begin() as session:
        for id, column in ((key, "encrypted_secret"), (trained_key, "wrapped_key")):
            row = {column: seal("key", id), "status": Status.SUCCEEDED}
            session.add(Key(id=id, account_id=account, scheme="tanaka", params={}, **row))
        session.flush()
        session.get_one(Key, trained_key).checkpoint_wrapped_key = seal("checkpoints", trained_key)
        session.get_one(Cell, cell).checkpoint_wrapped_key = seal("checkpoints", cell)
        shared = seal("shared", f"{evaluation}/controls")
        session.add(
            EvaluationArtifact(evaluation_id=evaluation, name="controls", owner_job_id=cell, attempt=1, sealed=shared)
        )
        webhook = new_id("webhook")
        sealed_secret = seal("webhook", webhook)
        session.add(Webhook(id=webhook, account_id=account, url="u", events=[], encrypted_secret=sealed_secret))
        body = {"sealed": base64.b64encode(seal("idempotency", once)).decode()}
        session.add(
            IdempotencyRecord(
                account_id=account, key=once, fingerprint=b"f", reserved_ids={}, status=201, body=body,
                locked_until=func.clock_timestamp(),
            )
        )  # fmt: skip


def read_encrypted_values(runtime: Runtime, keyring: Keyring) -> list[str]:
    """The purpose of every envelope, each decrypted with `keyring`. Raises DecryptionError."""
    found = []
    with runtime.sessions() as session:
        for encrypted in ENCRYPTED_COLUMNS:
            for *_, envelope, owner, id in session.execute(encrypted.rows()):
                plain = keyring.open(envelope, purpose=encrypted.purpose, owner=owner, id=id)
                assert plain == f"{encrypted.purpose} {id}".encode()
                found.append(encrypted.purpose)
    return found


@pytest.mark.anyio
async def test_an_api_process_reports_the_new_master_key_while_it_runs(settings: Settings, file: Path) -> None:
    engine, keyring = async_engine(settings), load_keyring(settings)
    select_versions = select(ProcessHeartbeat.master_key_version)
    async with (
        send_heartbeats(engine.execution_options(isolation_level="AUTOCOMMIT"), keyring, 0.02),
        engine.connect() as connection,
        asyncio.timeout(10),
    ):
        write_keyring_file(file, keyring.with_new_master_key())
        while (await connection.execute(select_versions)).scalars().all() != [2]:
            await connection.rollback()
            await asyncio.sleep(0.02)
    await engine.dispose()


@pytest.mark.skipif("UNVEIL_TEST_DATABASE_URL" in os.environ, reason="reads the files of a server of its own")
def test_a_destroyed_key_stays_in_the_files_of_the_table_until_they_are_vacuumed(
    runtime: Runtime, account: str, server_state: Path
) -> None:
    envelope = load_keyring(runtime.settings).seal(b"secret", purpose="key", owner=account, id="key_1")
    server, engine = Postgres(server_state), runtime.sessions.kw["bind"]

    def is_in_files() -> bool:
        with psycopg.connect(server.admin_url, autocommit=True) as admin:
            admin.execute("CHECKPOINT")
        with runtime.sessions() as session:
            path = session.scalar(text("SELECT pg_relation_filepath('keys')"))
        return envelope in (server_state / "postgres" / path).read_bytes()

    with runtime.sessions.begin() as session:
        row = {"encrypted_secret": envelope, "status": Status.SUCCEEDED}
        session.add(Key(id="key_1", account_id=account, scheme="tanaka", params={}, **row))
    with runtime.sessions.begin() as session:
        session.get_one(Key, "key_1").encrypted_secret = None
    assert is_in_files()
    vacuum_keys(engine, lambda _: None)
    assert not is_in_files()


def test_a_table_of_keys_that_stays_locked_is_reported(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_rotation, "_LOCK_TIMEOUT_S", 1)
    with runtime.sessions.begin() as session:
        session.execute(text("LOCK TABLE keys IN ACCESS SHARE MODE"))
        with pytest.raises(RotationIncomplete, match="VACUUM"):
            vacuum_keys(runtime.sessions.kw["bind"], lambda _: None)


def test_every_column_of_bytes_is_rotated_or_known_to_hold_no_secret() -> None:
    columns = {
        f"{table.name}.{column.name}"
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    }
    rotated = {str(encrypted.column.expression) for encrypted in ENCRYPTED_COLUMNS}
    assert columns - NOT_ENCRYPTED == rotated - {"idempotency.body"}


def test_all_that_is_sealed_comes_under_the_new_master_and_the_old_one_goes(runtime, account, file) -> None:
    old = load_keyring(runtime.settings)
    for number in range(3):
        add_encrypted_rows(runtime, account, old, number)
    assert rotate(runtime.sessions, file, lambda _: None) == 3 * len(ENCRYPTED_COLUMNS)
    new = parse_keyring(file.read_text())
    assert set(new.master_keys) == {2}
    assert new.pepper == old.pepper, "tokens stay valid"
    assert file.stat().st_mode & 0o777 == 0o600
    assert sorted(set(read_encrypted_values(runtime, new))) == [
        "checkpoints",
        "idempotency",
        "key",
        "shared",
        "webhook",
    ]
    with pytest.raises(DecryptionError):
        read_encrypted_values(runtime, Keyring(new.pepper, {1: old.master_keys[1]}))
    assert runtime.keyring.primary_version == 2, "a process that ran all the time has read it again"
    assert len(read_encrypted_values(runtime, runtime.keyring)) == 3 * len(ENCRYPTED_COLUMNS)


@pytest.mark.parametrize("where", ["_wait_for_processes", "_rewrap_all", "_drop_old_master_keys", "write_keyring_file"])
def test_a_run_that_was_killed_is_gone_on_with(runtime, account, file, monkeypatch, where) -> None:
    add_encrypted_rows(runtime, account, runtime.keyring)

    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    calls = []
    real = key_rotation.write_keyring_file

    def die_at_the_end(*given):
        calls.append(given)  # the first call starts the rotation, the second ends it
        return real(*given) if len(calls) == 1 else die()

    with monkeypatch.context() as patched:
        patched.setattr(key_rotation, where, die_at_the_end if where == "write_keyring_file" else die)
        with pytest.raises(Killed):
            rotate(runtime.sessions, file, lambda _: None)
    between = parse_keyring(file.read_text())
    assert set(between.master_keys) == {1, 2}
    assert len(read_encrypted_values(runtime, between)) == len(ENCRYPTED_COLUMNS)
    add_encrypted_rows(runtime, account, runtime.keyring, 1)  # the service goes on
    rotate(runtime.sessions, file, lambda _: None)
    after = parse_keyring(file.read_text())
    assert after.master_keys == {2: between.master_keys[2]}, "the same new master, not a third"
    assert len(read_encrypted_values(runtime, after)) == 2 * len(ENCRYPTED_COLUMNS)


def test_a_rotation_after_a_destroyed_key_ends_the_master_key_of_an_interrupted_one(runtime, account, file) -> None:
    interrupted = load_keyring(runtime.settings).with_new_master_key()
    write_keyring_file(file, interrupted)
    destroyed = interrupted.seal(b"secret", purpose="key", owner=account, id="key_1")  # remains in old files
    rotate(runtime.sessions, file, lambda _: None, restart=True)
    with pytest.raises(DecryptionError):
        parse_keyring(file.read_text()).open(destroyed, purpose="key", owner=account, id="key_1")


def test_a_batch_that_was_killed_in_the_middle_is_gone_on_with(runtime, account, file, monkeypatch) -> None:
    for number in range(5):
        add_encrypted_rows(runtime, account, runtime.keyring, number)
    monkeypatch.setattr(key_rotation, "_BATCH_SIZE", 2)
    calls = []
    real = Keyring.rewrap

    def once(*given, **named):
        calls.append(given)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(Keyring, "rewrap", once)
        with pytest.raises(KeyboardInterrupt):
            rotate(runtime.sessions, file, lambda _: None)
    assert rotate(runtime.sessions, file, lambda _: None) == 5 * len(ENCRYPTED_COLUMNS) - 2, "the first batch was done"
    assert len(read_encrypted_values(runtime, parse_keyring(file.read_text()))) == 5 * len(ENCRYPTED_COLUMNS)


def test_nothing_is_dropped_while_a_process_reads_another_copy_of_the_ring(runtime, account, file, tmp_path) -> None:
    add_encrypted_rows(runtime, account, runtime.keyring)
    copy = tmp_path / "copy"
    copy.write_text(file.read_text())
    stale = load_keyring(runtime.settings.model_copy(update={"keyring_file": copy}))
    with runtime.sessions.begin() as session:
        session.execute(upsert_heartbeat("api@elsewhere/1", ["api"], stale.primary_version))
    with pytest.raises(RotationIncomplete, match="api@elsewhere/1 still encrypt under an older"):
        rotate(runtime.sessions, file, lambda _: None, timeout_s=0.3)
    add_encrypted_rows(runtime, account, stale, 1)
    copy.write_text(file.read_text())
    with runtime.sessions.begin() as session:
        session.execute(upsert_heartbeat("api@elsewhere/1", ["api"], stale.primary_version))
    assert rotate(runtime.sessions, file, lambda _: None) == 2 * len(ENCRYPTED_COLUMNS)
    assert len(read_encrypted_values(runtime, parse_keyring(file.read_text()))) == 2 * len(ENCRYPTED_COLUMNS)


def test_one_who_went_silent_long_ago_is_not_waited_for(runtime, account, file) -> None:
    with runtime.sessions.begin() as session:
        session.execute(upsert_heartbeat("gone", ["encrypt"], runtime.keyring.primary_version))
        past = func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 1)
        session.execute(update(ProcessHeartbeat).values(seen_at=past))
    rotate(runtime.sessions, file, lambda _: None, timeout_s=0.3)


def test_a_row_moved_to_another_account_stops_the_rotation_with_its_name(runtime, account, file) -> None:
    add_encrypted_rows(runtime, account, runtime.keyring)
    other = make_account(runtime.sessions, "other")
    with runtime.sessions.begin() as session:
        id = session.scalar(update(Key).values(account_id=other).returning(Key.id))
    with pytest.raises(RotationIncomplete, match=f"keys {id}"):
        rotate(runtime.sessions, file, lambda _: None)
    assert set(parse_keyring(file.read_text()).master_keys) == {1, 2}
    with runtime.sessions.begin() as session:
        session.execute(delete(Key))
    rotate(runtime.sessions, file, lambda _: None)
    assert set(parse_keyring(file.read_text()).master_keys) == {2}


def test_what_is_written_meanwhile_under_the_old_master_is_noticed(runtime, account, file, monkeypatch) -> None:
    old = Keyring(runtime.keyring.pepper, dict(runtime.keyring.master_keys))
    real = key_rotation._rewrap_all

    def and_then_one_more(*given):
        done = real(*given)
        add_encrypted_rows(runtime, account, old)
        return done

    with monkeypatch.context() as patched:
        patched.setattr(key_rotation, "_rewrap_all", and_then_one_more)
        with pytest.raises(RotationIncomplete, match="has just written under an older"):
            rotate(runtime.sessions, file, lambda _: None)
    rotate(runtime.sessions, file, lambda _: None)
    assert len(read_encrypted_values(runtime, parse_keyring(file.read_text()))) == len(ENCRYPTED_COLUMNS)


def test_a_lock_in_the_row_is_rewrapped_without_its_weights(runtime, account, file) -> None:
    named = {"purpose": "key", "owner": account, "id": "key_1"}
    lock = runtime.keyring.new_wrapped_key(**named)
    body = runtime.keyring.encrypt_with_data_key(lock, b"weights", **named)
    with runtime.sessions.begin() as session:
        row = {"scheme": "tn-model", "params": {}, "weights_blob": "keys/key_1.1", "status": Status.SUCCEEDED}
        session.add(Key(id="key_1", account_id=account, wrapped_key=lock, **row))
    rotate(runtime.sessions, file, lambda _: None)
    with runtime.sessions() as session:
        lock = session.scalar(select(Key.wrapped_key))
    assert parse_keyring(file.read_text()).open(lock + body, **named) == b"weights"


def test_two_rotations_at_once_are_one(runtime: Runtime, account: str, file: Path) -> None:
    add_encrypted_rows(runtime, account, parse_keyring(file.read_text()))
    before = file.read_text()
    with key_rotation.exclusive_rotation(file), pytest.raises(RotationIncomplete, match="another command"):
        rotate(runtime.sessions, file, print)
    assert file.read_text() == before
    rotate(runtime.sessions, file, print)
    assert parse_keyring(file.read_text()).primary_version == 2
