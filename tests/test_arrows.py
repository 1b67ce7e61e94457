"""Which package may import which: app takes from models the catalog alone, models takes from nobody."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _imported(file: Path) -> Iterator[str]:
    """Dotted names of all that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    ("package", "refused", "allowed"),
    [
        ("app", ("models", "torch", "worker"), ("models.catalog",)),
        ("models", ("app", "worker"), ()),
        ("worker", ("app",), ("app.db", "app.core", "app.settings", "app.storage", "app.queue")),
    ],
)
def test_no_import_goes_against_the_arrows(package: str, refused: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    def within(name: str, packages: tuple[str, ...]) -> bool:
        return any(name == each or name.startswith(f"{each}.") for each in packages)

    found = [
        f"{file.relative_to(ROOT)}: {name}"
        for file in sorted((ROOT / package).rglob("*.py"))
        for name in _imported(file)
        if within(name, refused) and not within(name, allowed)
    ]
    assert not found
