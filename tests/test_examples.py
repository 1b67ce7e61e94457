"""The examples run whole and say what they claim."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

ROOT = Path(__file__).parents[1]
CODE = """
import runpy, sys
runpy.run_path({path!r})
service = {{"unveil.app", "unveil.worker", "sqlalchemy", "celery", "fastapi", "pydantic"}}
print("loaded:", sorted(service & set(sys.modules)))
"""


@pytest.mark.slow
def test_the_example_audits_schemes_without_the_service(tmp_path: Path) -> None:
    code = CODE.format(path=str(ROOT / "examples" / "audit_a_scheme.py"))
    command = [sys.executable, "-W", "error", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "agreement with the true key: {'permutation': 1.0, 'reversed': 1.0}" in done.stdout
    verdicts = [line.rpartition(", ")[2] for line in done.stdout.splitlines() if " under " in line]
    assert verdicts == ["leaks", "broken", "inconclusive", "inconclusive", "broken"]
    assert "loaded: []" in done.stdout
    for name in ("tanaka", "reused-pad"):
        with PIL.Image.open(tmp_path / "audited" / f"{name}.png") as sheet:
            assert sheet.width == 8 * 96


@pytest.mark.slow
def test_the_notebook_audits_a_scheme_in_ten_lines(tmp_path: Path) -> None:
    notebook = json.loads((ROOT / "examples" / "audit_in_ten_lines.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert sum(bool(line.strip()) for line in cells[0].splitlines()) <= 10
    shown = _run_cells(cells, tmp_path)
    assert "broken" in shown[0]["text/html"]
    assert "data:image/png;base64," in shown[0]["text/html"]
    assert shown[1]["text/plain"].startswith("('broken'")
    assert "chosen-plaintext" in shown[2]["text/html"]
    assert shown[3]["text/plain"].startswith("((32, 96, 96, 3)")
    assert "<html" in (tmp_path / "report.html").read_text()
    assert "inconclusive" in shown[5]["text/plain"]


def _run_cells(cells: list[str], folder: Path) -> list[dict[str, str]]:
    """Run the cells in a Jupyter kernel -> what each shows last, by media type."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(cwd=str(folder), env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        return [_run_cell(client, cell) for cell in cells]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def _run_cell(client: Any, cell: str) -> dict[str, str]:
    shown: dict[str, str] = {}

    def keep(message: dict[str, Any]) -> None:
        if message["msg_type"] == "execute_result":
            shown.update(message["content"]["data"])

    reply = client.execute_interactive(cell, output_hook=keep, timeout=240)
    assert reply["content"]["status"] == "ok", "\n".join(reply["content"]["traceback"])
    return shown
