"""Versions that results record."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__version__ = "0.2.0"

_CHECKOUT = Path(__file__).parents[3]  # in an installation: a folder without .git
_GIT_TIMEOUT_S = 10


@cache
def package_versions() -> dict[str, str | None]:
    """Of this installation. torch: None where it is not installed. commit: None where it is unknown."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = None
    return {"unveil": __version__, "commit": _find_commit(), "torch": torch, "python": platform.python_version()}


def _find_commit() -> str | None:
    """UNVEIL_COMMIT, which builds of containers set, else that of the checkout, with `-dirty` if it was changed."""
    if commit := os.environ.get("UNVEIL_COMMIT"):
        return commit
    if not (_CHECKOUT / ".git").exists():
        return None
    # Without locks, so that a commit in the checkout at the same time does not fail.
    git = ["git", "--no-optional-locks", "-C", str(_CHECKOUT)]
    command = [*git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_GIT_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
