"""The README's commands, as a new user copies them: each block on the running service; make targets and paths exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import documents
from unveil.app.local.stack import LocalStack

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = documents.runnable_blocks(README)


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("language", "text"), BLOCKS, ids=[f"{language}-{i}" for i, (language, _) in enumerate(BLOCKS)]
)
def test_a_block_runs_as_it_stands(language: str, text: str, tmp_path: Path, stack: LocalStack) -> None:
    documents.prepare_folder(tmp_path)
    said = documents.run_block(language, text.replace("audit-1", f"audit-{tmp_path.name}"), tmp_path, stack)
    if "report.html" in text:
        assert (tmp_path / "plain.png").stat().st_size
        assert "event: status" in (tmp_path / "events.txt").read_text()
        assert "<html" in (tmp_path / "report.html").read_text()[:300]
    if language == "python":
        assert "succeeded" in said


def test_it_shows_a_shell_a_python_and_a_terminal_session() -> None:
    assert [language for language, _ in BLOCKS] == ["shell", "python", "shell"]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("target", sorted(set(re.findall(r"^    make (?:\w+=\w+ )?(\w+)", README, re.MULTILINE))))
def test_a_make_target_that_it_names_exists(target: str) -> None:
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:app|worker|models|migrations|tests|docs|examples)/[^`]*)`", README)))
)
def test_a_place_that_it_names_exists(path: str) -> None:
    assert (ROOT / path).exists()
