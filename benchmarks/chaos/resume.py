"""A training killed at random steps and resumed: everything in the end is as in a run without, to the bit.

One cell with no service around it, as `python -m models.evaluation --resume` runs it and a worker too; checkpoints come
twenty times a second instead of each minute, so that there is one to go on from.
"""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.chaos import images
from benchmarks.chaos.outcome import FaultResult, ProgressCallback

_TRAINING_CELLS = (
    ("tanaka", "itn:epochs=40"),
    ("tanaka", "itn-strong:epochs=40"),
    ("tanaka", "gan:epochs=20"),
    ("tn-gan:epochs=30", "none"),
    ("tn-model:epochs=20", "none"),
)
_MAX_LOST_PERCENT = 5.0  # per cent of the work that may lie between a checkpoint and what was told last
_IMAGES = 32  # a key of TN-model wants twenty
_CELL_SCRIPT = """
import sys
from unveil.models.evaluation.cli import main
from unveil.models.training import loop
loop.CHECKPOINT_INTERVAL_SECONDS = 0.05
sys.exit(main(sys.argv[1:]))
"""


def run(log_progress: ProgressCallback, *, rounds: int = 2, kills: int = 3, seed: int = 0) -> list[FaultResult]:
    rng = random.Random(seed)
    survived, seconds = 0, []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images.write_dataset(folder, _IMAGES)
        trials = [(*cell, number) for number in range(rounds) for cell in _TRAINING_CELLS]
        for scheme, attack, number in trials:
            name = f"{attack} on {scheme}"
            baseline_folder, killed_folder = folder / f"calm, {name}, {number}", folder / f"killed, {name}, {number}"
            progress_count = len(_run_cell(folder, baseline_folder, scheme, attack, number))
            kill_points, last_percent = [rng.randrange(1, progress_count // (kills + 1)) for _ in range(kills)], 0.0
            for kill_point in kill_points:
                last_percent = max(
                    [
                        last_percent,
                        *_parse_percentages(
                            _run_cell(folder, killed_folder, scheme, attack, number, kill_after=kill_point)
                        ),
                    ]
                )
            started_at = time.monotonic()
            resumed_percent = min(
                _parse_percentages(_run_cell(folder, killed_folder, scheme, attack, number)), default=100.0
            )
            seconds.append(time.monotonic() - started_at)
            same = _read_outputs(baseline_folder) == _read_outputs(killed_folder)
            survived += same and resumed_percent > last_percent - _MAX_LOST_PERCENT
            log_progress(
                f"{name}: killed after {kill_points} of {progress_count} words of progress, "
                f"at {last_percent:.0f} % at last; went on at "
                f"{resumed_percent:.0f} %: {'the same' if same else 'OTHER FIGURES'}"
            )
    deaths_made = kills * len(trials)
    cell = ", ".join(f"{attack} on {scheme}" for scheme, attack in _TRAINING_CELLS)
    note = f"{cell}; {deaths_made} kills; results, scores, curves, pictures compared to the bit"
    return [FaultResult("resumed training", len(trials), survived, len(trials) - survived, seconds, note)]


def _parse_percentages(lines: list[str]) -> list[float]:
    """The percentages that were told, but those before there was any work."""
    return [percent for line in lines if (match := re.search(r"([\d.]+)%", line)) and (percent := float(match[1]))]


def _run_cell(
    data: Path, out: Path, scheme: str, attack: str, seed: int, *, kill_after: int | None = None
) -> list[str]:
    """Run the cell from its last checkpoint to the end, or until it has told so many words of its progress: these."""
    command = [
        sys.executable,
        "-c",
        _CELL_SCRIPT,
        "--scheme",
        scheme,
        "--attack",
        attack,
        "--data",
        str(data / images.SMALL_DATASET),
        "--profile",
        "smoke",
        "--keys",
        "1",
        "--samples",
        "2",
        "--seed",
        str(seed),
        "--out",
        str(out),
        "--resume",
    ]
    progress_lines, line = list[str](), ""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:  # a carriage return ends a line, too
            progress_lines += [line] if "%" in line else []
            if len(progress_lines) == kill_after:
                process.kill()
                break
    if process.returncode != (0 if kill_after is None else -signal.SIGKILL):
        raise RuntimeError(f"{attack} on {scheme} ended by itself, {process.returncode}: {line}")
    return progress_lines


def _read_outputs(out: Path) -> dict[str, Any]:
    """All that the cell left but its checkpoints, without the seconds that it took."""
    files = [*out.glob("samples/*.png"), out / "scores.csv", out / "curves.json"]
    result = json.loads((out / "result.json").read_text())
    del result["result"]["seconds"]
    key = result["result"]["trained_key"] or {"reached": {}}
    key.pop("seconds", None)
    key["reached"].pop("images_per_second", None)
    return {"result": result, **{file.name: file.read_bytes() for file in files}}
