"""The example in cells runs whole, with nothing but `models/`, and says what it claims."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest

ROOT = Path(__file__).parents[1]
CODE = """
import runpy, sys
runpy.run_path({path!r})
print("loaded:", sorted(set(sys.modules) & {{"app", "worker", "sqlalchemy", "celery", "fastapi", "pydantic"}}))
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
