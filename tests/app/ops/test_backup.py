"""Backup and restore on a real PostgreSQL, into an empty database and another blob store."""

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
from tests.jobs import run_cell, train_key
from tests.trained import register_scheme
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Base, Cell, Dataset, Key, ProcessHeartbeat, Sample, SignInCode, Token
from unveil.app.ops import backup as backups
from unveil.app.ops.backup import BackupError, backup, restore
from unveil.app.security.envelope import Keyring, new_keyring
from unveil.app.settings import Settings
from unveil.app.storage import BlobStore
from unveil.worker import cells, key_loading, sweeper
from unveil.worker.runtime import Runtime, make_runtime


def ignore_progress(_: str) -> None:
    pass


@pytest.fixture
def keyring() -> Keyring:
    return new_keyring()


@pytest.fixture
def settings(settings: Settings, keyring: Keyring, tmp_path: Path) -> Settings:
    file = tmp_path / "ring"
    file.write_text(keyring.dumps())
    return settings.model_copy(update={"keyring_file": file})


@pytest.fixture
def folder_url(tmp_path: Path) -> str:
    return (tmp_path / "elsewhere").as_uri()


@pytest.fixture
def target(
    request: pytest.FixtureRequest,
    settings: Settings,
    empty_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Runtime]:
    """Another machine: an empty database and an empty blob store; param: the fixture of its URL."""
    monkeypatch.setenv("UNVEIL_DATABASE_URL", empty_database_url)
    blob_url = request.getfixturevalue(getattr(request, "param", "folder_url"))
    there = {"database_url": empty_database_url, "blob_url": blob_url}
    runtime = make_runtime(settings.model_copy(update=there), Celery("test"))
    yield runtime
    runtime.sessions.kw["bind"].dispose()


def make_backup(runtime: Runtime) -> io.BytesIO:
    file = io.BytesIO()
    backup(runtime.settings, runtime.keyring, file, ignore_progress)
    return io.BytesIO(file.getvalue())


def restore_backup(runtime: Runtime, file: io.BytesIO) -> None:
    restore(runtime.settings, runtime.keyring, file, ignore_progress)


def rows(runtime: Runtime) -> dict[str, list[tuple[object, ...]]]:
    left_out = {"process_heartbeats", "sign_in_codes", "dashboard_sessions"}
    with runtime.sessions() as session:
        return {
            table.name: sorted((tuple(map(repr, row)) for row in session.execute(select(table))), key=str)
            for table in Base.metadata.sorted_tables
            if table.name not in left_out
        }


def used_service(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A service that was used: a trained key, one that was destroyed, a finished cell and one in the middle."""
    register_scheme(monkeypatch)
    account = make_account(runtime.sessions)
    ready, destroyed = (make_key_to_train(runtime.sessions, runtime.keyring, account) for _ in range(2))
    for id in (ready, destroyed):
        train_key(runtime, id)
    _, (done, running) = make_evaluation(runtime.sessions, account, ("none", "fr"))
    run_cell(runtime, done)
    assert cells.claim(runtime, running)
    runtime.blobs.write(f"checkpoints/{running}/part/network.ckpt", b"half-way")
    runtime.blobs.write("datasets/ds_1.npz", b"images")
    with runtime.sessions.begin() as session:
        session.execute(
            update(Key).where(Key.id == destroyed).values(wrapped_key=None, destroyed_at=func.clock_timestamp())
        )
        session.add(
            Dataset(
                id="ds_1",
                account_id=account,
                name="mine",
                kind="plain",
                train_count=1,
                test_count=1,
                width=1,
                height=1,
                classes=["a"],
                blob="datasets/ds_1.npz",
                pixel_bytes=6,
            )
        )
        session.add(SignInCode(hash=b"h", account_id=account, scopes=[], expires_at=func.clock_timestamp()))
        session.add(ProcessHeartbeat(name="here", queues=["attack"], seen_at=func.clock_timestamp()))
    token = make_token(runtime.sessions, runtime.keyring, account)
    return {"ready": ready, "destroyed": destroyed, "done": done, "running": running, "token": token}


@pytest.mark.parametrize("target", ["folder_url", "bucket_url"], indirect=True)
def test_everything_comes_back_and_goes_on_elsewhere(runtime, target, monkeypatch) -> None:
    made = used_service(runtime, monkeypatch)
    restore_backup(target, make_backup(runtime))
    assert rows(target) == rows(runtime)
    with target.sessions() as session:
        assert key_loading.decrypt_secret(target, session.get_one(Key, made["ready"]))[:1] == b"w"
        assert session.scalar(select(Token.hash)) == target.keyring.token_hash(made["token"])
        assert session.scalars(select(SignInCode)).all() == session.scalars(select(ProcessHeartbeat)).all() == []
        assert session.scalar(select(Sample.protected).where(Sample.cell_id == made["done"]))
    assert target.blobs.read("datasets/ds_1.npz") == b"images"
    assert target.blobs.read(f"checkpoints/{made['running']}/part/network.ckpt") == b"half-way"
    with target.sessions.begin() as session:
        past = func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 1)
        session.execute(update(Cell).where(Cell.id == made["running"]).values(lease_until=past))
    sweeper.requeue_expired_leases(target.sessions, target.settings)
    run_cell(target, made["running"])
    with target.sessions() as session:
        assert session.get_one(Cell, made["running"]).status == Status.SUCCEEDED


def test_a_destroyed_key_stays_destroyed(runtime, target, monkeypatch) -> None:
    id = used_service(runtime, monkeypatch)["destroyed"]
    assert runtime.blobs.list_folder("keys"), "its weights are still there: the sweeper has not come yet"
    file = make_backup(runtime)
    with tarfile.open(fileobj=file) as archive:
        assert not [name for name in archive.getnames() if name.startswith(f"blobs/keys/{id}")]
    file.seek(0)
    restore_backup(target, file)
    with target.sessions() as session:
        key = session.get_one(Key, id)
    assert (key.wrapped_key, key.destroyed_at is not None) == (None, True)


def test_after_a_new_master_key_an_older_backup_opens_with_a_copy_of_the_old_ring_only(
    runtime, target, monkeypatch, keyring
) -> None:
    used_service(runtime, monkeypatch)
    file = make_backup(runtime)
    new = keyring.with_new_master_key().with_primary_master_key_only()
    with pytest.raises(BackupError, match=r"another keyring \(1 differ or are missing\)"):
        restore(target.settings, new, file, ignore_progress)
    file.seek(0)
    with pytest.raises(BackupError, match="pepper, 1"):
        restore(target.settings, new_keyring(), file, ignore_progress)
    file.seek(0)
    restore(target.settings, keyring, file, ignore_progress)


def test_a_restore_that_was_killed_is_run_again(runtime, target, monkeypatch) -> None:
    used_service(runtime, monkeypatch)
    file = make_backup(runtime)

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(BlobStore, "write_file", die)
        with pytest.raises(Killed):
            restore_backup(target, file)
    assert not any(rows(target).values()), "no row without its blob"
    file.seek(0)
    restore_backup(target, file)
    assert rows(target) == rows(runtime)


def test_a_file_that_was_cut_off_or_damaged_restores_nothing(runtime, target, monkeypatch) -> None:
    used_service(runtime, monkeypatch)
    whole = make_backup(runtime).getvalue()
    at = whole.index(b"half-way")
    damaged = whole[:at] + b"HALF" + whole[at + 4 :]
    for broken in (whole[: len(whole) // 2], whole[: whole.index(b"end.json")], damaged, b"", b"no backup" * 100):
        with pytest.raises(BackupError):
            restore_backup(target, io.BytesIO(broken))
        with psycopg.connect(target.settings.database_url) as connection:
            exists = connection.execute("SELECT to_regclass('accounts')").fetchone()[0]
            assert exists is None or not connection.execute("SELECT 1 FROM accounts").fetchone()


def test_a_database_in_use_is_not_written_over(runtime, monkeypatch) -> None:
    used_service(runtime, monkeypatch)
    file, before = make_backup(runtime), rows(runtime)
    monkeypatch.setenv("UNVEIL_DATABASE_URL", runtime.settings.database_url)
    with pytest.raises(BackupError, match="in use"):
        restore_backup(runtime, file)
    assert rows(runtime) == before


def test_what_is_written_or_deleted_meanwhile_is_not_in_it_and_does_no_harm(runtime, target, monkeypatch) -> None:
    made = used_service(runtime, monkeypatch)
    before = rows(runtime)
    real = backups._list_referenced_blobs

    def and_meanwhile(session, blobs):
        yield from real(session, blobs)
        make_account(runtime.sessions, "late")
        with runtime.sessions.begin() as other:
            other.delete(other.get_one(Dataset, "ds_1"))
        runtime.blobs.delete("datasets/ds_1.npz")

    monkeypatch.setattr(backups, "_list_referenced_blobs", and_meanwhile)
    restore_backup(target, make_backup(runtime))
    assert rows(target) == before
    assert not target.blobs.exists("datasets/ds_1.npz")
    with target.sessions() as session:
        assert key_loading.decrypt_secret(target, session.get_one(Key, made["ready"]))


@pytest.mark.parametrize("what", ["deleted", "replaced"])
def test_a_checkpoint_that_goes_while_an_object_store_is_read_spoils_no_backup(
    what, runtime, bucket_url, target, monkeypatch
) -> None:
    settings = runtime.settings.model_copy(update={"blob_url": bucket_url})
    remote = replace(runtime, settings=settings, blobs=BlobStore(settings))
    _, (running,) = make_evaluation(runtime.sessions, make_account(runtime.sessions), ("none",))
    assert cells.claim(runtime, running)
    name = f"checkpoints/{running}/network.ckpt"
    remote.blobs.write(name, b"a" * 12_000_000)
    remote.blobs.write("checkpoints/other", b"")  # else the bucket's folder goes with its last object
    monkeypatch.setattr(S3FileSystem, "default_block_size", 5 * 2**20)  # read in pieces
    real, times = BlobStore.open, list[str]()

    def and_meanwhile(blobs, name):
        file = real(blobs, name)
        if not times:
            file.read(2**20)
            file.seek(0)
            if what == "deleted":
                BlobStore(settings).delete(name)
            else:
                BlobStore(settings).write(name, b"b" * 12_000_000)
        times.append(name)
        return file

    monkeypatch.setattr(BlobStore, "open", and_meanwhile)
    file = make_backup(remote)
    monkeypatch.undo()
    monkeypatch.setenv("UNVEIL_DATABASE_URL", target.settings.database_url)
    restore_backup(target, file)
    if what == "deleted":
        assert not target.blobs.exists(name)
    else:
        assert target.blobs.read(name) == b"b" * 12_000_000
