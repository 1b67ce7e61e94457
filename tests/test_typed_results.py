"""Results of cells are read by attribute everywhere: only the schema itself turns them into JSON and back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCHEMA = {"models/core/cell_result.py", "models/core/json_record.py"}
# Fields of a stored result: no other JSON has names like these next to each other.
FIELDS = {"ssim", "psnr", "identification", "key_agreement", "controls", "recogniser", "paper_ssim", "effective_bits",
          "top1", "above_chance", "ci_low", "ci_high", "drop"}  # fmt: skip


def product_files(suffix: str) -> Iterator[Path]:
    for top in ("app", "worker", "models"):
        yield from sorted((ROOT / top).rglob(f"*{suffix}"))


def indexed_results(source: str) -> list[int]:
    """Lines that index a value by the name of a result's field, or anything named `result` by a string."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Subscript):
            value, key = node.value, node.slice
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "get"
            and node.args
        ):
            value, key = node.func.value, node.args[0]
        else:
            continue
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            name = value.attr if isinstance(value, ast.Attribute) else value.id if isinstance(value, ast.Name) else ""
            if key.value in FIELDS or name == "result" or name.endswith("_result"):
                lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    "source",
    ['result["ssim"]["mean"]', 'cell.result["verdict"]', '(cell.result or {}).get("ssim")', 'seen["top1"]',
     'utility_result["cost"]'],
)  # fmt: skip
def test_an_indexed_result_is_found(source):
    assert indexed_results(source)


def test_no_module_indexes_a_result():
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in product_files(".py")
        if path.relative_to(ROOT).as_posix() not in SCHEMA
        # SQL addresses fields of stored JSON by name.
        and path.name != "queries.py"
        for line in indexed_results(path.read_text())
    }
    assert found == set()


@pytest.mark.parametrize("suffix", [".html", ".j2"])
def test_no_template_indexes_a_result(suffix):
    found = [path for path in product_files(suffix) if re.search(r"result(\.\w+)*\[[\"']", path.read_text())]
    assert found == []
