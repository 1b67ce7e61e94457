"""`unveil doctor` says what is wrong in a sentence, for each thing that may be wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from sqlalchemy import func

from tests.factories import make_account
from unveil.app.cli.doctor import Check, run_checks
from unveil.app.db.ids import new_id
from unveil.app.db.tables import Key, ProcessHeartbeat
from unveil.app.security.envelope import Keyring, new_keyring
from unveil.app.settings import Settings
from unveil.app.storage import BlobStore
from unveil.worker.runtime import Runtime

SetSetting = Callable[[str, object], None]


@pytest.fixture
def set_setting(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SetSetting:
    """Change a setting; all others are those of a well installation."""
    file = tmp_path / "ring"
    file.write_text(new_keyring().dumps())
    file.chmod(0o600)

    def put(name: str, value: object) -> None:
        monkeypatch.setenv(f"UNVEIL_{name.upper()}", str(value))

    for name in ("database_url", "redis_url", "blob_url", "data_dir"):
        put(name, getattr(settings, name))
    put("keyring_file", file)
    put("url", "http://127.0.0.1:9")
    return put


@pytest.fixture
def live_workers(runtime: Runtime) -> None:
    with runtime.sessions.begin() as session:
        for queue in ("encrypt,ops", "attack"):
            session.add(ProcessHeartbeat(name=queue, queues=queue.split(","), seen_at=func.clock_timestamp()))


def run_doctor(url: str | None = None) -> dict[str, Check]:
    return {check.name: check for check in run_checks(url, "none", None)}


def failed_checks() -> dict[str, str]:
    return {name: check.detail for name, check in run_doctor().items() if check.grade == "bad"}


def test_nothing_is_wrong_where_all_is_well_but_a_service_that_is_away_is_noted(
    set_setting: SetSetting, live_workers: None
) -> None:
    found = run_doctor()
    assert {name: check.detail for name, check in found.items() if check.grade == "bad"} == {}
    assert (found["service"].grade, found["service"].detail) == ("note", "no service responds at http://127.0.0.1:9")
    assert found["workers"].detail == "on every queue"
    named = run_doctor("http://127.0.0.1:9")
    assert {name: check.grade for name, check in named.items()} == {"service": "away"}, "a named one must be there"


def test_a_database_that_is_away(set_setting: SetSetting) -> None:
    set_setting("database_url", "postgresql://me:geheim@127.0.0.1:9/unveil")
    found = failed_checks()
    assert set(found) == {"database", "workers"}
    assert "refused" in found["database"]
    assert "UNVEIL_DATABASE_URL" in found["database"]
    assert "geheim" not in str(found)


def test_a_password_that_is_wrong(set_setting: SetSetting, settings: Settings, live_workers: None) -> None:
    parts = urlsplit(settings.database_url)
    set_setting("database_url", settings.database_url.replace(f":{parts.password}@", ":wrong@"))
    assert "password authentication failed" in failed_checks()["database"]


@pytest.mark.parametrize("version", ["0001", None])
def test_a_schema_that_is_not_the_newest(
    set_setting: SetSetting, settings: Settings, live_workers: None, version: str | None
) -> None:
    with psycopg.connect(settings.database_url) as connection:
        change = "DROP TABLE alembic_version" if version is None else "UPDATE alembic_version SET version_num = '0001'"
        connection.execute(change)
    found = failed_checks()
    assert set(found) == {"database"}
    assert f"its schema is {version or 'missing'} instead of" in found["database"]
    assert "unveil migrate" in found["database"]


@pytest.mark.parametrize("url", ["redis://127.0.0.1:9/0", "unix:///nowhere/redis.sock", "{wrong_password}"])
def test_a_broker_that_is_away_or_does_not_let_us_in(
    set_setting: SetSetting, settings: Settings, live_workers: None, url: str
) -> None:
    wrong_password = settings.redis_url.replace(f":{urlsplit(settings.redis_url).password}@", ":wrong@")
    set_setting("redis_url", url.format(wrong_password=wrong_password))
    found = failed_checks()
    assert set(found) == {"broker"}
    assert "UNVEIL_REDIS_URL" in found["broker"]


def _world_readable(file: Path) -> str:
    file.write_text(new_keyring().dumps())
    file.chmod(0o644)
    return "other users can read"


def _garbage(file: Path) -> str:
    file.write_text("hello")
    return "32 bytes in base64"


def _none(file: Path) -> str:
    return "No such file"


@pytest.mark.parametrize("spoil", [_world_readable, _garbage, _none])
def test_a_keyring_that_is_missing_none_or_open_to_others(
    set_setting: SetSetting, live_workers: None, tmp_path: Path, spoil
) -> None:
    said = spoil(tmp_path / "other")
    set_setting("keyring_file", tmp_path / "other")
    found = failed_checks()
    assert set(found) == {"keyring"}
    assert said in found["keyring"]


def test_a_keyring_that_lacks_a_master_key_in_use(
    set_setting: SetSetting, live_workers: None, runtime: Runtime
) -> None:
    lost = Keyring(b"p" * 32, {7: b"k" * 32})
    account, id = make_account(runtime.sessions), new_id("key")
    with runtime.sessions.begin() as session:
        sealed = lost.seal(b"s", purpose="key", owner=account, id=id)
        session.add(
            Key(id=id, account_id=account, scheme="tanaka", params={}, encrypted_secret=sealed, status="succeeded")
        )
    assert "encrypted under master key 7, which the keyring lacks" in failed_checks()["keyring"]


def test_a_blob_store_that_cannot_be_written_or_is_nearly_full(
    set_setting: SetSetting, live_workers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    set_setting("blob_url", (tmp_path / "file").as_uri())
    assert "UNVEIL_BLOB_URL" in failed_checks()["blobs"]
    set_setting("blob_url", (tmp_path / "blobs").as_uri())
    monkeypatch.setattr(BlobStore, "free_bytes", lambda self: 10 * 2**20)
    assert "only 10 MiB are free" in failed_checks()["blobs"]


@pytest.mark.parametrize(
    ("queues", "grade", "said"),
    [
        ([], "bad", "none on encrypt; encryption requests time out: run unveil worker"),
        (["attack"], "bad", "none on encrypt"),
        (["encrypt", "attack"], "bad", "none on ops"),
        (["encrypt,ops"], "note", "none on attack; evaluations"),
    ],
)
def test_a_queue_without_a_worker(
    set_setting: SetSetting, runtime: Runtime, queues: list[str], grade: str, said: str
) -> None:
    with runtime.sessions.begin() as session:
        for queue in queues:
            session.add(ProcessHeartbeat(name=queue, queues=queue.split(","), seen_at=func.clock_timestamp()))
        gone = func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 5)
        session.add(ProcessHeartbeat(name="gone", queues=["encrypt", "ops"], seen_at=gone))
    check = run_doctor()["workers"]
    assert check.grade == grade
    assert said in check.detail


def test_a_setting_that_makes_no_sense(set_setting: SetSetting) -> None:
    set_setting("lease_ttl_s", "soon")
    assert "UNVEIL_LEASE_TTL_S" in failed_checks()["settings"]


def test_production_without_a_keyring(
    set_setting: SetSetting, live_workers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UNVEIL_KEYRING_FILE")
    assert run_doctor()["keyring"].grade == "note"
    set_setting("environment", "production")
    assert "unveil keys new-ring" in failed_checks()["keyring"]
