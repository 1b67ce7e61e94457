"""Versions that results record."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

__version__ = "0.2.0"


@cache
def package_versions() -> dict[str, str | None]:
    """Of this installation; torch: None where it is not installed."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = None
    return {"unveil": __version__, "torch": torch, "python": platform.python_version()}
