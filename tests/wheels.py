"""Wheels and source distributions of this checkout, built by its build backend."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
UV = [sys.executable, "-m", "uv"]


def build_wheel(out: Path, source: Path = ROOT) -> Path:
    """`source` is a folder or a source distribution."""
    return _build("--wheel", out, source)


def build_sdist(out: Path) -> Path:
    return _build("--sdist", out, ROOT)


def _build(kind: str, out: Path, source: Path) -> Path:
    done = subprocess.run(
        [*UV, "build", "--quiet", kind, "--out-dir", str(out), str(source)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    built = [path for path in out.iterdir() if path.name.startswith("unveil-")]
    assert len(built) == 1, built
    return built[0]
