"""Commands out of Markdown, run as a reader copies them. What is to be run stands below `<!-- run: shell -->`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from unveil.app.local.stack import LocalStack

ROOT = Path(__file__).parent.parent


def runnable_blocks(text: str) -> list[tuple[str, str]]:
    """Language and text of each block that is to be run."""
    return re.findall(r"<!-- run: (\w+) -->\n```\w+\n(.*?)```", text, re.DOTALL)


def prepare_folder(folder: Path) -> None:
    """Where the reader stands: with `unveil` on the path."""
    command = folder / "bin" / "unveil"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -W error -c "from unveil.app.cli import main; main()" "$@"\n')
    command.chmod(0o755)


def run_block(language: str, text: str, folder: Path, stack: LocalStack) -> str:
    """What it says on stdout; fails where the block fails."""
    text = text.replace("http://127.0.0.1:8000", stack.url).replace(".state/up", str(stack.state))
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
    return done.stdout
