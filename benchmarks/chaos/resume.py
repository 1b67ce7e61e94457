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

_TRAINED = (
    ("tanaka", "itn:epochs=40"),
    ("tanaka", "itn-strong:epochs=40"),
    ("tanaka", "gan:epochs=20"),
    ("tn-gan:epochs=30", "none"),
    ("tn-model:epochs=20", "none"),
)
_STEP = 5.0  # per cent of the work that may lie between a checkpoint and what was told last
_IMAGES = 32  # a key of TN-model wants twenty
_CELL = """
import sys
from models import evaluation, training
training.SAVE_SECONDS = 0.05
sys.exit(evaluation.main(sys.argv[1:]))
"""


def run(tell: Tell, *, rounds: int = 2, kills: int = 3, seed: int = 0) -> list[Outcome]:
    dice = random.Random(seed)
    survived, seconds = 0, []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        images.write_few(folder, _IMAGES)
        tries = [(*trained, number) for number in range(rounds) for trained in _TRAINED]
        for scheme, attack, number in tries:
            name = f"{attack} on {scheme}"
            calm, killed = folder / f"calm, {name}, {number}", folder / f"killed, {name}, {number}"
            words = len(_run(folder, calm, scheme, attack, number))
            deaths, last = [dice.randrange(1, words // (kills + 1)) for _ in range(kills)], 0.0
            for word in deaths:
                last = max([last, *_done(_run(folder, killed, scheme, attack, number, kill_after=word))])
            began = time.monotonic()
            first = min(_done(_run(folder, killed, scheme, attack, number)), default=100.0)
            seconds.append(time.monotonic() - began)
            same = _everything(calm) == _everything(killed)
            survived += same and first > last - _STEP
            tell(
                f"{name}: killed after {deaths} of {words} words of progress, at {last:.0f} % at last; went on at "
                f"{first:.0f} %: {'the same' if same else 'OTHER FIGURES'}"
            )
    deaths_made = kills * len(tries)
    trained = ", ".join(f"{attack} on {scheme}" for scheme, attack in _TRAINED)
    note = f"{trained}; {deaths_made} kills; results, scores, curves, pictures compared to the bit"
    return [Outcome("resumed training", len(tries), survived, len(tries) - survived, seconds, note)]


def _done(words: list[str]) -> list[float]:
    """The percentages that were told, but those before there was any work."""
    return [done for word in words if (found := re.search(r"([\d.]+)%", word)) and (done := float(found[1]))]


def _run(data: Path, out: Path, scheme: str, attack: str, seed: int, *, kill_after: int | None = None) -> list[str]:
    """Run the cell from its last checkpoint to the end, or until it has told so many words of its progress: these."""
    command = [
        sys.executable, "-c", _CELL, "--scheme", scheme, "--attack", attack, "--data", str(data / images.NAME),
        "--profile", "smoke", "--keys", "1", "--samples", "2", "--seed", str(seed), "--out", str(out), "--resume",
    ]  # fmt: skip
    words, said = list[str](), ""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for said in process.stderr:  # a carriage return ends a line, too
            words += [said] if "%" in said else []
            if len(words) == kill_after:
                process.kill()
                break
    if process.returncode != (0 if kill_after is None else -signal.SIGKILL):
        raise RuntimeError(f"{attack} on {scheme} ended by itself, {process.returncode}: {said}")
    return words


def _everything(out: Path) -> dict[str, Any]:
    """All that the cell left but its checkpoints, without the seconds that it took."""
    files = [*out.glob("samples/*.png"), out / "scores.csv", out / "curves.json"]
    result = json.loads((out / "result.json").read_text())
    del result["result"]["seconds"]
    key = result["result"].get("trained_key", {"reached": {}})
    key.pop("seconds", None)
    key["reached"].pop("images_per_second", None)
    return {"result": result, **{file.name: file.read_bytes() for file in files}}
