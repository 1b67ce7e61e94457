"""All that the service keeps, in one file and back: on real PostgreSQL, into an empty database and another folder."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from celery import Celery
from s3fs import S3FileSystem
from sqlalchemy import func, select, update

from tests.factories import make_account, make_evaluation, make_key_to_train, make_token
from tests.trained import teach
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Base, Cell, Dataset, Key, Sample, SignInCode, Token, Worker
from unveil.app.ops import backup as backups
from unveil.app.ops.backup import Refused, backup, restore
from unveil.app.security.envelope import KeyRing, new_key_ring
from unveil.app.settings import Settings
from unveil.app.storage import Blobs
from unveil.worker import cells, key_loading, key_training, sweeper
from unveil.worker.runtime import Runtime, make_runtime


def quiet(_: str) -> None:
    pass


@pytest.fixture
def ring() -> KeyRing:
    return new_key_ring()


@pytest.fixture
def settings(settings: Settings, ring: KeyRing, tmp_path: Path) -> Settings:
    file = tmp_path / "ring"
    file.write_text(ring.dump())
    return settings.model_copy(update={"keyring_file": file})


@pytest.fixture
def folder_url(tmp_path: Path) -> str:
    return (tmp_path / "elsewhere").as_uri()


@pytest.fixture
def elsewhere(
    request: pytest.FixtureRequest,
    settings: Settings,
    empty_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Runtime]:
    """Another machine: an empty database and no blobs; param: the fixture that names where they go."""
    monkeypatch.setenv("UNVEIL_DATABASE_URL", empty_database_url)
    blob_url = request.getfixturevalue(getattr(request, "param", "folder_url"))
    there = {"database_url": empty_database_url, "blob_url": blob_url}
    tools = make_runtime(settings.model_copy(update=there), Celery("test"))
    yield tools
    tools.sessions.kw["bind"].dispose()


def saved(tools: Runtime) -> io.BytesIO:
    file = io.BytesIO()
    backup(tools.settings, tools.ring, file, quiet)
    return io.BytesIO(file.getvalue())


def restored(tools: Runtime, file: io.BytesIO) -> None:
    restore(tools.settings, tools.ring, file, quiet)


def rows(tools: Runtime) -> dict[str, list[tuple[object, ...]]]:
    left_out = {"workers", "sign_in_codes", "dashboard_sessions"}
    with tools.sessions() as session:
        return {
            table.name: sorted((tuple(map(repr, row)) for row in session.execute(select(table))), key=str)
            for table in Base.metadata.sorted_tables
            if table.name not in left_out
        }


def used(tools: Runtime, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A service that was used: a trained key, one that was destroyed, a finished cell and one in the middle."""
    teach(monkeypatch)
    account = make_account(tools.sessions)
    ready, destroyed = (make_key_to_train(tools.sessions, tools.ring, account) for _ in range(2))
    for id in (ready, destroyed):
        key_training.handle(tools, id)
    _, (done, running) = make_evaluation(tools.sessions, account, ("none", "fr"))
    cells.handle(tools, done)
    assert cells.claim(tools, running)
    tools.blobs.write(f"checkpoints/{running}/part/network.ckpt", b"half-way")
    tools.blobs.write("datasets/ds_1.npz", b"images")
    with tools.sessions.begin() as session:
        session.execute(update(Key).where(Key.id == destroyed).values(sealed=None, destroyed_at=func.clock_timestamp()))
        session.add(
            Dataset(
                id="ds_1", account_id=account, name="mine", kind="plain", train=1, test=1, width=1, height=1,
                classes=["a"], blob="datasets/ds_1.npz", bytes=6,
            )
        )  # fmt: skip
        session.add(SignInCode(hash=b"h", account_id=account, scopes=[], expires_at=func.clock_timestamp()))
        session.add(Worker(name="here", queue="attack", seen_at=func.clock_timestamp()))
    token = make_token(tools.sessions, tools.ring, account)
    return {"ready": ready, "destroyed": destroyed, "done": done, "running": running, "token": token}


@pytest.mark.parametrize("elsewhere", ["folder_url", "bucket_url"], indirect=True)
def test_everything_comes_back_and_goes_on_elsewhere(tools, elsewhere, monkeypatch) -> None:
    made = used(tools, monkeypatch)
    restored(elsewhere, saved(tools))
    assert rows(elsewhere) == rows(tools)
    with elsewhere.sessions() as session:
        assert key_loading.secret(elsewhere, session.get_one(Key, made["ready"]))[:1] == b"w"
        assert session.scalar(select(Token.hash)) == elsewhere.ring.token_hash(made["token"])
        assert session.scalars(select(SignInCode)).all() == session.scalars(select(Worker)).all() == []
        assert session.scalar(select(Sample.protected).where(Sample.cell_id == made["done"]))
    assert elsewhere.blobs.read("datasets/ds_1.npz") == b"images"
    assert elsewhere.blobs.read(f"checkpoints/{made['running']}/part/network.ckpt") == b"half-way"
    with elsewhere.sessions.begin() as session:
        past = func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 1)
        session.execute(update(Cell).where(Cell.id == made["running"]).values(lease_until=past))
    sweeper.give_up_silent_workers(elsewhere.sessions, elsewhere.settings)
    cells.handle(elsewhere, made["running"])
    with elsewhere.sessions() as session:
        assert session.get_one(Cell, made["running"]).status == Status.SUCCEEDED


def test_a_destroyed_key_stays_destroyed(tools, elsewhere, monkeypatch) -> None:
    id = used(tools, monkeypatch)["destroyed"]
    assert tools.blobs.names("keys"), "its weights are still there: the sweeper has not come yet"
    file = saved(tools)
    with tarfile.open(fileobj=file) as archive:
        assert not [name for name in archive.getnames() if name.startswith(f"blobs/keys/{id}")]
    file.seek(0)
    restored(elsewhere, file)
    with elsewhere.sessions() as session:
        key = session.get_one(Key, id)
    assert (key.sealed, key.destroyed_at is not None) == (None, True)


def test_after_a_new_master_key_an_older_backup_opens_with_a_copy_of_the_old_ring_only(
    tools, elsewhere, monkeypatch, ring
) -> None:
    used(tools, monkeypatch)
    file = saved(tools)
    new = ring.with_new_master().with_newest_master_only()
    with pytest.raises(Refused, match=r"key ring .* \(1 differ or are missing\)"):
        restore(elsewhere.settings, new, file, quiet)
    file.seek(0)
    with pytest.raises(Refused, match="pepper, 1"):
        restore(elsewhere.settings, new_key_ring(), file, quiet)
    file.seek(0)
    restore(elsewhere.settings, ring, file, quiet)


def test_a_restore_that_was_killed_is_run_again(tools, elsewhere, monkeypatch) -> None:
    used(tools, monkeypatch)
    file = saved(tools)

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Blobs, "save", die)
        with pytest.raises(Killed):
            restored(elsewhere, file)
    assert not any(rows(elsewhere).values()), "no row without its blob"
    file.seek(0)
    restored(elsewhere, file)
    assert rows(elsewhere) == rows(tools)


def test_a_file_that_was_cut_off_or_damaged_restores_nothing(tools, elsewhere, monkeypatch) -> None:
    used(tools, monkeypatch)
    whole = saved(tools).getvalue()
    at = whole.index(b"half-way")
    damaged = whole[:at] + b"HALF" + whole[at + 4 :]
    for broken in (whole[: len(whole) // 2], whole[: whole.index(b"end.json")], damaged, b"", b"no backup" * 100):
        with pytest.raises(Refused):
            restored(elsewhere, io.BytesIO(broken))
        with psycopg.connect(elsewhere.settings.database_url) as connection:
            exists = connection.execute("SELECT to_regclass('accounts')").fetchone()[0]
            assert exists is None or not connection.execute("SELECT 1 FROM accounts").fetchone()


def test_a_database_in_use_is_not_written_over(tools, monkeypatch) -> None:
    used(tools, monkeypatch)
    file, before = saved(tools), rows(tools)
    monkeypatch.setenv("UNVEIL_DATABASE_URL", tools.settings.database_url)
    with pytest.raises(Refused, match="in use"):
        restored(tools, file)
    assert rows(tools) == before


def test_what_is_written_or_deleted_meanwhile_is_not_in_it_and_does_no_harm(tools, elsewhere, monkeypatch) -> None:
    made = used(tools, monkeypatch)
    before = rows(tools)
    real = backups._named

    def and_meanwhile(session, blobs):
        yield from real(session, blobs)
        make_account(tools.sessions, "late")
        with tools.sessions.begin() as other:
            other.delete(other.get_one(Dataset, "ds_1"))
        tools.blobs.delete("datasets/ds_1.npz")

    monkeypatch.setattr(backups, "_named", and_meanwhile)
    restored(elsewhere, saved(tools))
    assert rows(elsewhere) == before
    assert not elsewhere.blobs.exists("datasets/ds_1.npz")
    with elsewhere.sessions() as session:
        assert key_loading.secret(elsewhere, session.get_one(Key, made["ready"]))


@pytest.mark.parametrize("what", ["deleted", "replaced"])
def test_a_checkpoint_that_goes_while_an_object_store_is_read_spoils_no_backup(
    what, tools, bucket_url, elsewhere, monkeypatch
) -> None:
    settings = tools.settings.model_copy(update={"blob_url": bucket_url})
    remote = replace(tools, settings=settings, blobs=Blobs(settings))
    _, (running,) = make_evaluation(tools.sessions, make_account(tools.sessions), ("none",))
    assert cells.claim(tools, running)
    name = f"checkpoints/{running}/network.ckpt"
    remote.blobs.write(name, b"a" * 12_000_000)
    remote.blobs.write("checkpoints/other", b"")  # else the bucket's folder goes with its last object
    monkeypatch.setattr(S3FileSystem, "default_block_size", 5 * 2**20)  # read in pieces
    real, times = Blobs.open, list[str]()

    def and_meanwhile(blobs, name):
        file = real(blobs, name)
        if not times:
            file.read(2**20)
            file.seek(0)
            if what == "deleted":
                Blobs(settings).delete(name)
            else:
                Blobs(settings).write(name, b"b" * 12_000_000)
        times.append(name)
        return file

    monkeypatch.setattr(Blobs, "open", and_meanwhile)
    file = saved(remote)
    monkeypatch.undo()
    monkeypatch.setenv("UNVEIL_DATABASE_URL", elsewhere.settings.database_url)
    restored(elsewhere, file)
    if what == "deleted":
        assert not elsewhere.blobs.exists(name)
    else:
        assert elsewhere.blobs.read(name) == b"b" * 12_000_000
