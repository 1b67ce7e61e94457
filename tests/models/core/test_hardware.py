"""What a result says of the machine that computed it."""

from __future__ import annotations

import re
import subprocess

import pytest

from unveil.models.core import version
from unveil.models.core.hardware import describe_hardware


def test_the_processor_has_a_name_and_cores() -> None:
    assert re.fullmatch(r"\S.*, \d+ cores?", describe_hardware("cpu"))


def test_the_commit_is_that_of_the_build_or_of_the_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("UNVEIL_COMMIT", "0123abcd")
    assert version._find_commit() == "0123abcd"
    monkeypatch.delenv("UNVEIL_COMMIT")
    monkeypatch.setattr(version, "_CHECKOUT", tmp_path)
    assert version._find_commit() is None, "an installation, below whatever repository"
    git = ("git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.test")
    subprocess.run([*git, "init", "--quiet"], check=True)
    (tmp_path / "file").write_text("1")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "first"], check=True)
    commit = version._find_commit()
    assert re.fullmatch("[0-9a-f]{12}", commit)
    (tmp_path / "file").write_text("2")
    assert version._find_commit() == f"{commit}-dirty"
