"""The README's commands, as a new user copies them: each block on the running service; make targets and paths exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from app.local import LocalStack
from tests.pictures import pixels

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"<!-- run: (\w+) -->\n```\w+\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the user stands: with a photograph, and `unveil` on the path."""
    Image.fromarray(pixels(1, 97, 61)).save(tmp_path / "photo.png")
    command = tmp_path / "bin" / "unveil"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -W error -c "from app.cli import main; main()" "$@"\n')
    command.chmod(0o755)
    return tmp_path


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("language", "text"), BLOCKS, ids=[f"{language}-{i}" for i, (language, _) in enumerate(BLOCKS)]
)
def test_a_block_runs_as_it_stands(language: str, text: str, folder: Path, stack: LocalStack) -> None:
    text = text.replace("http://127.0.0.1:8000", stack.url).replace(".state/up", str(stack.state))
    text = text.replace("audit-1", f"audit-{folder.name}")
    command = {"shell": ["bash", "-euo", "pipefail", "-c", text], "python": [sys.executable, "-W", "error", "-c", text]}
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        command[language],
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    if "report.html" in text:
        assert (folder / "plain.png").stat().st_size
        assert "event: status" in (folder / "events.txt").read_text()
        assert "<html" in (folder / "report.html").read_text()[:300]
    if language == "python":
        assert "succeeded" in done.stdout


def test_it_shows_a_shell_a_python_and_a_terminal_session() -> None:
    assert [language for language, _ in BLOCKS] == ["shell", "python", "shell"]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("target", sorted(set(re.findall(r"^    make (?:\w+=\w+ )?(\w+)", README, re.MULTILINE))))
def test_a_make_target_that_it_names_exists(target: str) -> None:
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:app|worker|models|migrations|tests|docs)/[^`]*)`", README)))
)
def test_a_place_that_it_names_exists(path: str) -> None:
    assert (ROOT / path).exists()
