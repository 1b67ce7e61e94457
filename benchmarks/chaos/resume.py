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
from benchmarks.chaos.outcome import Outcome, Tell

_TRAINED = ("itn:epochs=40", "itn-strong:epochs=40", "gan:epochs=20")
_CELL = """
import sys
from models import evaluation, training
training.SAVE_SECONDS = 0.05
sys.exit(evaluation.main(sys.argv[1:]))
"""
_EPOCH = re.compile(r"([\d.]+)%  .*epoch")


def run(tell: Tell, *, rounds: int = 2, kills: int = 3, seed: int = 0) -> list[Outcome]:
    dice = random.Random(seed)
    survived, seconds, steps = 0, [], 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images.write_few(folder)
        tries = [(attack, number) for number in range(rounds) for attack in _TRAINED]
        for attack, number in tries:
            calm, killed = folder / f"calm-{attack}-{number}", folder / f"killed-{attack}-{number}"
            _run(folder, calm, attack, number)
            told = []
            for at in sorted(dice.random() for _ in range(kills)):
                first, last = _run(folder, killed, attack, number, kill_at=at)
                told.append(f"{first:.0%} to {last:.0%}")
            began = time.monotonic()
            first, _ = _run(folder, killed, attack, number)
            seconds.append(time.monotonic() - began)
            same = _everything(calm) == _everything(killed)
            survived += same and first > 0
            steps += kills
            tell(f"{attack}: {', '.join(told)}, {first:.0%} to the end: {'the same' if same else 'OTHER FIGURES'}")
    note = f"{', '.join(_TRAINED)}; {steps} kills; results, scores, curves and pictures compared to the bit"
    return [Outcome("resumed training", len(tries), survived, len(tries) - survived, seconds, note)]


def _run(data: Path, out: Path, attack: str, seed: int, *, kill_at: float = 2.0) -> tuple[float, float]:
    """Run the cell from its last checkpoint, until it has come to `kill_at`; how far it was first and last."""
    command = [
        sys.executable, "-c", _CELL, "--scheme", "tanaka", "--attack", attack, "--data", str(data / images.NAME),
        "--profile", "smoke", "--keys", "1", "--samples", "2", "--seed", str(seed), "--out", str(out), "--resume",
    ]  # fmt: skip
    told: list[float] = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:  # \r ends a line too
            said = line
            told += [float(percent) / 100 for percent in _EPOCH.findall(line)]
            if told and told[-1] >= kill_at:
                process.kill()
                break
    if not told or (process.returncode != 0 if kill_at > 1 else process.returncode != -signal.SIGKILL):
        raise RuntimeError(f"{attack} ended by itself, {process.returncode}: {said}")
    return told[0], told[-1]


def _everything(out: Path) -> dict[str, Any]:
    """What the cell left, without the seconds that it took and its speed."""
    found: dict[str, Any] = {str(path.relative_to(out)): path.read_bytes() for path in out.glob("**/*.png")}
    result = json.loads((out / "result.json").read_text())
    del result["result"]["seconds"]
    return {**found, "result": result, "scores": (out / "scores.csv").read_text(), "ssim": result["result"]["ssim"]}
