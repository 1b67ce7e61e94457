"""Settings are read from the environment, also under the names of version 0.1, with a warning."""

from __future__ import annotations

import logging

import pytest
from pydantic import ValidationError

from unveil.app import settings as module
from unveil.app.settings import OLD_NAMES, Settings


@pytest.fixture(autouse=True)
def every_warning() -> None:
    """Also those that another test of this process has caused before."""
    module._warn_once.cache_clear()


@pytest.mark.parametrize(("name", "old_name"), OLD_NAMES.items())
def test_an_old_name_is_read_with_a_warning_that_names_the_new_one(
    name: str, old_name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(f"UNVEIL_{old_name.upper()}", "7")
    assert getattr(Settings(), name) == 7
    Settings()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"UNVEIL_{old_name.upper()} is now called UNVEIL_{name.upper()}" in record.message


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_new_name_is_read_without_a_warning(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    texts = {
        "environment": "production",
        "database_url": "postgresql://a/b",
        "redis_url": "redis://a",
        "secure_cookies": "1",
        "job_memory_bytes": "300000000",
        "root_path": "/unveil",
        "webhook_allowed_networks": "10.0.0.0/8",
    }
    monkeypatch.setenv(f"UNVEIL_{name.upper()}", texts.get(name, "9"))
    assert getattr(Settings(), name) != Settings.model_fields[name].default
    assert caplog.records == []


def test_a_new_name_wins_over_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNVEIL_LEASE_S", "7")
    monkeypatch.setenv("UNVEIL_LEASE_TTL_S", "8")
    assert Settings().lease_ttl_s == 8
    assert Settings(lease_ttl_s=9).lease_ttl_s == 9


def test_a_wrong_value_is_reported_under_the_name_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNVEIL_SIGN_IN_MINUTES", "soon")
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert [error["loc"] for error in caught.value.errors()] == [("UNVEIL_SIGN_IN_CODE_TTL_MINUTES",)]


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValidationError):
        Settings(lease_s=7)  # type: ignore[call-arg]
