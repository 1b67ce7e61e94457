"""A new master key with data in place: everything opens before, between and after, wherever a run was killed."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from sqlalchemy import LargeBinary, delete, func, select, update

from tests.factories import make_account, make_evaluation
from unveil.app.db.heartbeats import arrival
from unveil.app.db.ids import new_id
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Base, Cell, Idempotency, Key, Shared, Worker
from unveil.app.security import key_rotation
from unveil.app.security.envelope import KeyRing, Unreadable, load_key_ring, new_key_ring, parse_key_ring
from unveil.app.security.key_rotation import PLACES, Unfinished, rotate
from unveil.app.settings import Settings
from unveil.worker.runtime import Runtime

NOT_SEALED = {
    "tokens.hash", "sign_in_codes.hash", "dashboard_sessions.hash", "idempotency.fingerprint",
    "samples.plain", "samples.protected", "samples.reconstructed",
}  # fmt: skip


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    file = tmp_path / "ring"
    file.write_text(new_key_ring().dump())
    return settings.model_copy(update={"keyring_file": file})


@pytest.fixture
def file(settings: Settings) -> Path:
    assert settings.keyring_file is not None
    return settings.keyring_file


@pytest.fixture
def account(tools: Runtime) -> str:
    return make_account(tools.sessions)


def fill(tools: Runtime, account: str, ring: KeyRing, number: int = 0) -> None:
    """One sealed value of each kind."""
    evaluation, (cell,) = make_evaluation(tools.sessions, account)
    key, once = new_id("key"), f"once-{number}"

    def seal(purpose: str, id: str) -> bytes:
        return ring.seal(f"{purpose} {id}".encode(), purpose=purpose, owner=account, id=id)

    with tools.sessions.begin() as session:
        sealed = seal("key", key)
        session.add(
            Key(
                id=key, account_id=account, scheme="tanaka", params={}, sealed=sealed, status=Status.SUCCEEDED,
                checkpoint_lock=seal("checkpoints", key),
            )
        )  # fmt: skip
        session.get_one(Cell, cell).recovered = seal("recovered-key", cell)
        session.get_one(Cell, cell).checkpoint_lock = seal("checkpoints", cell)
        shared = seal("shared", f"{evaluation}/controls")
        session.add(Shared(evaluation_id=evaluation, name="controls", holder=cell, attempt=1, sealed=shared))
        body = {"sealed": base64.b64encode(seal("idempotency", once)).decode()}
        session.add(
            Idempotency(
                account_id=account, key=once, fingerprint=b"f", reserved={}, status=201, body=body,
                locked_until=func.clock_timestamp(),
            )
        )  # fmt: skip


def opened(tools: Runtime, ring: KeyRing) -> list[str]:
    """Every sealed value, read with `ring`. Raises Unreadable."""
    found = []
    with tools.sessions() as session:
        for place in PLACES:
            for *_, sealed, owner, id in session.execute(place.rows()):
                plain = ring.open(sealed, purpose=place.purpose, owner=owner, id=id)
                assert plain == f"{place.purpose} {id}".encode()
                found.append(place.purpose)
    return found


def test_every_column_of_bytes_is_rotated_or_known_to_hold_no_secret() -> None:
    columns = {
        f"{table.name}.{column.name}"
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    }
    rotated = {f"{place.table.__tablename__}.{name}" for place in PLACES for name in place.written(b"")}
    assert columns - NOT_SEALED == rotated - {"idempotency.body"}


def test_all_that_is_sealed_comes_under_the_new_master_and_the_old_one_goes(tools, account, file) -> None:
    old = load_key_ring(tools.settings)
    for number in range(3):
        fill(tools, account, old, number)
    assert rotate(tools.sessions, file, lambda _: None) == 3 * len(PLACES)
    new = parse_key_ring(file.read_text())
    assert set(new.masters) == {2}
    assert new.pepper == old.pepper, "tokens stay valid"
    assert file.stat().st_mode & 0o777 == 0o600
    assert sorted(set(opened(tools, new))) == ["checkpoints", "idempotency", "key", "recovered-key", "shared"]
    with pytest.raises(Unreadable):
        opened(tools, KeyRing(new.pepper, {1: old.masters[1]}))
    assert tools.ring.current == 2, "a process that ran all the time has read it again"
    assert len(opened(tools, tools.ring)) == 3 * len(PLACES)


@pytest.mark.parametrize("where", ["_wait_for_processes", "_rewrap_all", "_drop", "write_ring"])
def test_a_run_that_was_killed_is_gone_on_with(tools, account, file, monkeypatch, where) -> None:
    fill(tools, account, tools.ring)

    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    calls = {"write_ring": 1}  # its first call begins the rotation, its second ends it
    real = key_rotation.write_ring

    def die_at_the_end(*given):
        calls["write_ring"] -= 1
        return real(*given) if calls["write_ring"] >= 0 else die()

    with monkeypatch.context() as patched:
        patched.setattr(key_rotation, where, die_at_the_end if where == "write_ring" else die)
        with pytest.raises(Killed):
            rotate(tools.sessions, file, lambda _: None)
    between = parse_key_ring(file.read_text())
    assert set(between.masters) == {1, 2}
    assert len(opened(tools, between)) == len(PLACES)
    fill(tools, account, tools.ring, 1)  # the service goes on
    rotate(tools.sessions, file, lambda _: None)
    after = parse_key_ring(file.read_text())
    assert after.masters == {2: between.masters[2]}, "the same new master, not a third"
    assert len(opened(tools, after)) == 2 * len(PLACES)


def test_a_batch_that_was_killed_in_the_middle_is_gone_on_with(tools, account, file, monkeypatch) -> None:
    for number in range(5):
        fill(tools, account, tools.ring, number)
    monkeypatch.setattr(key_rotation, "_BATCH", 2)
    calls = []
    real = KeyRing.rewrap

    def once(*given, **named):
        calls.append(given)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(KeyRing, "rewrap", once)
        with pytest.raises(KeyboardInterrupt):
            rotate(tools.sessions, file, lambda _: None)
    assert rotate(tools.sessions, file, lambda _: None) == 5 * len(PLACES) - 2, "the first batch was done"
    assert len(opened(tools, parse_key_ring(file.read_text()))) == 5 * len(PLACES)


def test_nothing_is_dropped_while_a_process_reads_another_copy_of_the_ring(tools, account, file, tmp_path) -> None:
    fill(tools, account, tools.ring)
    copy = tmp_path / "copy"
    copy.write_text(file.read_text())
    stale = load_key_ring(tools.settings.model_copy(update={"keyring_file": copy}))
    with tools.sessions.begin() as session:
        session.execute(arrival("api@elsewhere/1", "api", stale.current))
    with pytest.raises(Unfinished, match="api@elsewhere/1 still seal under an older"):
        rotate(tools.sessions, file, lambda _: None, patience_s=0.3)
    fill(tools, account, stale, 1)
    copy.write_text(file.read_text())
    with tools.sessions.begin() as session:
        session.execute(arrival("api@elsewhere/1", "api", stale.current))
    assert rotate(tools.sessions, file, lambda _: None) == 2 * len(PLACES)
    assert len(opened(tools, parse_key_ring(file.read_text()))) == 2 * len(PLACES)


def test_one_who_went_silent_long_ago_is_not_waited_for(tools, account, file) -> None:
    with tools.sessions.begin() as session:
        session.execute(arrival("gone", "encrypt", tools.ring.current))
        past = func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 1)
        session.execute(update(Worker).values(seen_at=past))
    rotate(tools.sessions, file, lambda _: None, patience_s=0.3)


def test_a_row_moved_to_another_account_stops_the_rotation_with_its_name(tools, account, file) -> None:
    fill(tools, account, tools.ring)
    other = make_account(tools.sessions, "other")
    with tools.sessions.begin() as session:
        id = session.scalar(update(Key).values(account_id=other).returning(Key.id))
    with pytest.raises(Unfinished, match=f"keys {id}"):
        rotate(tools.sessions, file, lambda _: None)
    assert set(parse_key_ring(file.read_text()).masters) == {1, 2}
    with tools.sessions.begin() as session:
        session.execute(delete(Key))
    rotate(tools.sessions, file, lambda _: None)
    assert set(parse_key_ring(file.read_text()).masters) == {2}


def test_what_is_written_meanwhile_under_the_old_master_is_noticed(tools, account, file, monkeypatch) -> None:
    old = KeyRing(tools.ring.pepper, dict(tools.ring.masters))
    real = key_rotation._rewrap_all

    def and_then_one_more(*given):
        done = real(*given)
        fill(tools, account, old)
        return done

    with monkeypatch.context() as patched:
        patched.setattr(key_rotation, "_rewrap_all", and_then_one_more)
        with pytest.raises(Unfinished, match="just now"):
            rotate(tools.sessions, file, lambda _: None)
    rotate(tools.sessions, file, lambda _: None)
    assert len(opened(tools, parse_key_ring(file.read_text()))) == len(PLACES)


def test_a_lock_in_the_row_is_rewrapped_without_its_weights(tools, account, file) -> None:
    named = {"purpose": "key", "owner": account, "id": "key_1"}
    lock = tools.ring.new_lock(**named)
    body = tools.ring.seal_under(lock, b"weights", **named)
    with tools.sessions.begin() as session:
        row = {"scheme": "tn-model", "params": {}, "sealed": lock, "blob": "keys/key_1.1", "status": Status.SUCCEEDED}
        session.add(Key(id="key_1", account_id=account, **row))
    rotate(tools.sessions, file, lambda _: None)
    with tools.sessions() as session:
        lock = session.scalar(select(Key.sealed))
    assert parse_key_ring(file.read_text()).open(lock + body, **named) == b"weights"


def test_two_rotations_at_once_are_one(tools: Runtime, account: str, file: Path) -> None:
    fill(tools, account, parse_key_ring(file.read_text()))
    before = file.read_text()
    with key_rotation.alone(file), pytest.raises(Unfinished, match="another command"):
        rotate(tools.sessions, file, print)
    assert file.read_text() == before
    rotate(tools.sessions, file, print)
    assert parse_key_ring(file.read_text()).current == 2
