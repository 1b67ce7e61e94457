"""The new version on what version 0.1 left behind: its state folder, its settings, its backup."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from celery import Celery
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from tests.upgrade.checks import check_upgrade
from tests.upgrade.old_state import OldState, pixels_of, unpack
from unveil.app.cli.common import load_state_dir, read_settings
from unveil.app.db.migrate import alembic_config
from unveil.app.db.tables import Base, Key
from unveil.app.local.stack import LocalStack
from unveil.app.ops.backup import restore
from unveil.app.security.envelope import load_keyring
from unveil.app.settings import Settings
from unveil.models.catalog import make_scheme
from unveil.worker import key_loading
from unveil.worker.runtime import Runtime, make_runtime

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("stack")]
RENAMED_TABLES = {"shared": "evaluation_artifacts"}
NOT_IN_BACKUPS = {"alembic_version", "dashboard_sessions", "sign_in_codes", "workers"}


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> OldState:
    """To read from; a test that starts servers on it unpacks its own."""
    return unpack(tmp_path_factory.mktemp("old"))


def test_the_settings_of_an_old_state_folder_are_read_with_a_warning(
    old: OldState, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    load_state_dir(old.state)
    assert "UNVEIL_LEASE_S" in os.environ
    assert read_settings().lease_ttl_s == 300
    assert "UNVEIL_LEASE_S is now called UNVEIL_LEASE_TTL_S" in caplog.text


def test_an_old_backup_is_restored_and_migrated(
    old: OldState, empty_database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(
        database_url=empty_database_url,
        redis_url=redis_url,
        blob_url=(tmp_path / "blobs").as_uri(),
        keyring_file=old.keyring,
    )
    monkeypatch.setenv("UNVEIL_DATABASE_URL", empty_database_url)
    with old.backup.open("rb") as file:
        restore(settings, load_keyring(settings), file, print)
    runtime = make_runtime(settings, Celery("test"))
    with runtime.sessions() as session:
        newest = ScriptDirectory.from_config(alembic_config()).get_current_head()
        assert session.scalar(text("SELECT version_num FROM alembic_version")) == newest
        expected_rows = {RENAMED_TABLES.get(name, name): count for name, count in old.expected["rows"].items()}
        rows = {
            table.name: session.scalar(select(func.count()).select_from(table)) for table in Base.metadata.sorted_tables
        }
        kept = expected_rows.keys() - NOT_IN_BACKUPS
        assert {name: rows[name] for name in kept} == {name: expected_rows[name] for name in kept}
        check_keys(old, runtime, session)
    for job in old.expected["interrupted"].values():
        assert list(runtime.blobs.list_recursive(f"checkpoints/{job['id']}"))
    runtime.sessions.kw["bind"].dispose()


def check_keys(old: OldState, runtime: Runtime, session: Session) -> None:
    """Every key protects an image to the same pixels as in version 0.1."""
    checked = set()
    for name, key in old.expected["keys"].items():
        for image in key["images"]:
            if name.startswith("destroyed") or not image["plain"].endswith("00.png"):
                continue
            row = session.get_one(Key, key["id"])
            plain, protected = (pixels_of(old.image(image[kind])).copy() for kind in ("plain", "protected"))
            scheme = make_scheme(row.scheme, row.params)
            loaded = key_loading.load_key(runtime, scheme, row, *plain.shape[:2])
            levels = scheme.encrypt(plain[None], loaded)[0].astype(int) - protected
            assert abs(levels).max() <= (1 if scheme.trains else 0), name
            checked.add(row.scheme)
    assert checked == {"pixelwise", "tanaka", "ele", "etc", "tn-model", "tn-gan"}


@pytest.mark.timeout(1800)
def test_the_service_continues_on_an_old_state_folder(tmp_path: Path) -> None:
    old = unpack(tmp_path)
    environment = {
        "UNVEIL_IDEMPOTENCY_TTL_HOURS": "1000000",  # the recorded requests are older than a day
        "UNVEIL_ENCRYPT_TIMEOUT_S": "300",
        "UNVEIL_DEVICE": "cpu",
    }
    with LocalStack(
        old.state, port=0, durable=False, attack_workers=2, environment=environment, start_timeout_s=300
    ) as stack:
        check_upgrade(stack.url, old)
