"""`make demo` on its smallest profile: everything starts, is shown, and stops without a trace of a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_the_demo_shows_everything_and_stops_cleanly(tmp_path: Path) -> None:
    state = tmp_path / "demo"
    done = subprocess.run(
        [sys.executable, "-W", "error", "examples/demo.py", "--state", state, "--profile", "smoke"],
        cwd=Path(__file__).parents[1], env={**os.environ, "COLUMNS": "110"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("exact") >= 4, "every scheme's round trip"
    assert "paper" in done.stdout
    assert "pixelwise (different keys)" in done.stdout
    assert "<html" in (state / "report.html").read_text()[:300]
    assert json.loads((state / "report.json").read_text())
    assert list((state / "pictures").glob("astronaut.*.png"))
    left = [
        process for process in psutil.process_iter(["cmdline"]) if str(state) in " ".join(process.info["cmdline"] or [])
    ]
    assert not left
