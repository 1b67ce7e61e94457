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
from unveil.app.db.tables import Key, Worker
from unveil.app.security.envelope import KeyRing, new_key_ring
from unveil.app.settings import Settings
from unveil.app.storage import Blobs
from unveil.worker.runtime import Runtime

Set = Callable[[str, object], None]


@pytest.fixture
def put(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Set:
    """Change a setting; all others are those of a well installation."""
    file = tmp_path / "ring"
    file.write_text(new_key_ring().dump())
    file.chmod(0o600)

    def put(name: str, value: object) -> None:
        monkeypatch.setenv(f"UNVEIL_{name.upper()}", str(value))

    for name in ("database_url", "redis_url", "blob_url", "data_dir"):
        put(name, getattr(settings, name))
    put("keyring_file", file)
    put("url", "http://127.0.0.1:9")
    return put


@pytest.fixture
def staff(tools: Runtime) -> None:
    with tools.sessions.begin() as session:
        for queue in ("encrypt,ops", "attack"):
            session.add(Worker(name=queue, queue=queue, seen_at=func.clock_timestamp()))


def look(url: str | None = None) -> dict[str, Check]:
    return {check.name: check for check in run_checks(url, "none", None)}


def wrong() -> dict[str, str]:
    return {name: check.detail for name, check in look().items() if check.grade == "bad"}


def test_nothing_is_wrong_where_all_is_well_but_a_service_that_is_away_is_noted(put: Set, staff: None) -> None:
    found = look()
    assert {name: check.detail for name, check in found.items() if check.grade == "bad"} == {}
    assert (found["service"].grade, found["service"].detail) == ("note", "none answers at http://127.0.0.1:9")
    assert found["workers"].detail == "on every queue"
    assert look("http://127.0.0.1:9")["service"].grade == "away", "one that was named must be there"


def test_a_database_that_is_away(put: Set) -> None:
    put("database_url", "postgresql://me:geheim@127.0.0.1:9/unveil")
    found = wrong()
    assert set(found) == {"database", "workers"}
    assert "refused" in found["database"]
    assert "UNVEIL_DATABASE_URL" in found["database"]
    assert "geheim" not in str(found)


def test_a_password_that_is_wrong(put: Set, settings: Settings, staff: None) -> None:
    parts = urlsplit(settings.database_url)
    put("database_url", settings.database_url.replace(f":{parts.password}@", ":wrong@"))
    assert "password authentication failed" in wrong()["database"]


@pytest.mark.parametrize("version", ["0001", None])
def test_a_schema_that_is_not_the_newest(put: Set, settings: Settings, staff: None, version: str | None) -> None:
    with psycopg.connect(settings.database_url) as connection:
        change = "DROP TABLE alembic_version" if version is None else "UPDATE alembic_version SET version_num = '0001'"
        connection.execute(change)
    found = wrong()
    assert set(found) == {"database"}
    assert f"its schema is {version} and not" in found["database"]
    assert "unveil migrate" in found["database"]


@pytest.mark.parametrize("url", ["redis://127.0.0.1:9/0", "redis://:wrong@{place}/0"])
def test_a_broker_that_is_away_or_does_not_let_us_in(put: Set, settings: Settings, staff: None, url: str) -> None:
    place = urlsplit(settings.redis_url)
    put("redis_url", url.format(place=f"{place.hostname}:{place.port}"))
    found = wrong()
    assert set(found) == {"broker"}
    assert "UNVEIL_REDIS_URL" in found["broker"]


def _open(file: Path) -> str:
    file.write_text(new_key_ring().dump())
    file.chmod(0o644)
    return "others may read"


def _garbage(file: Path) -> str:
    file.write_text("hello")
    return "32 bytes in base64"


def _none(file: Path) -> str:
    return "No such file"


@pytest.mark.parametrize("spoil", [_open, _garbage, _none])
def test_a_key_ring_that_is_missing_none_or_open_to_others(put: Set, staff: None, tmp_path: Path, spoil) -> None:
    said = spoil(tmp_path / "other")
    put("keyring_file", tmp_path / "other")
    found = wrong()
    assert set(found) == {"key ring"}
    assert said in found["key ring"]


def test_a_key_ring_that_lacks_a_master_key_in_use(put: Set, staff: None, tools: Runtime) -> None:
    lost = KeyRing(b"p" * 32, {7: b"k" * 32})
    account, id = make_account(tools.sessions), new_id("key")
    with tools.sessions.begin() as session:
        sealed = lost.seal(b"s", purpose="key", owner=account, id=id)
        session.add(Key(id=id, account_id=account, scheme="tanaka", params={}, sealed=sealed, status="succeeded"))
    assert "sealed under master key 7, which it lacks" in wrong()["key ring"]


def test_a_blob_store_that_cannot_be_written_or_is_nearly_full(
    put: Set, staff: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    put("blob_url", (tmp_path / "file").as_uri())
    assert "UNVEIL_BLOB_URL" in wrong()["blobs"]
    put("blob_url", (tmp_path / "blobs").as_uri())
    monkeypatch.setattr(Blobs, "free", lambda self: 10 * 2**20)
    assert "only 10 MiB are free" in wrong()["blobs"]


@pytest.mark.parametrize(
    ("queues", "grade", "said"),
    [
        ([], "bad", "none on encrypt; requests to encrypt wait in vain: unveil worker"),
        (["attack"], "bad", "none on encrypt"),
        (["encrypt", "attack"], "bad", "none on ops"),
        (["encrypt,ops"], "note", "none on attack; evaluations"),
    ],
)
def test_a_queue_without_a_worker(put: Set, tools: Runtime, queues: list[str], grade: str, said: str) -> None:
    with tools.sessions.begin() as session:
        for queue in queues:
            session.add(Worker(name=queue, queue=queue, seen_at=func.clock_timestamp()))
        gone = func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 5)
        session.add(Worker(name="gone", queue="encrypt,ops", seen_at=gone))
    check = look()["workers"]
    assert check.grade == grade
    assert said in check.detail


def test_a_setting_that_makes_no_sense(put: Set) -> None:
    put("lease_s", "soon")
    assert "lease_s" in wrong()["settings"]


def test_production_without_a_key_ring(put: Set, staff: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNVEIL_KEYRING_FILE")
    assert look()["key ring"].grade == "note"
    put("environment", "production")
    assert "unveil keys new-ring" in wrong()["key ring"]
