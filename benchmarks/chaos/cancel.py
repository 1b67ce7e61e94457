"""Cells at work are cancelled: until the evaluation has ended so, in seconds, at the 95th percentile at most two."""

from __future__ import annotations

import math
import random
import time
from typing import Any

from benchmarks.chaos import images
from benchmarks.chaos.fixtures import SCHEMES, Scene, scene
from benchmarks.chaos.outcome import Outcome, Tell
from unveil.app.db.job_states import Status

_BOUND_S = 2.0
_ENDLESS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # work that does not end by itself meanwhile
    "scoring": ({"name": "none"}, {"schemes": SCHEMES, "dataset": images.MANY, "keys": 64}),
    "training (ITN)": ({"name": "itn", "epochs": 2000}, {}),
    "training (GAN)": ({"name": "gan", "epochs": 2000}, {}),
}


def run(tell: Tell, *, tries: int = 20, seed: int = 0) -> list[Outcome]:
    dice = random.Random(seed)
    with scene() as there:
        rows = []
        for name, (attack, more) in _ENDLESS.items():
            took, others = [], 0
            for _ in range(tries):
                id = there.order([attack], **more)
                there.until_at_work(id)
                time.sleep(dice.random())
                took.append(_cancel(there, id))
                others += there.show(id)["status"] != Status.CANCELLED
            took.sort()
            late = took[math.ceil(0.95 * tries) - 1]
            tell(f"{name}: {late:.2f} s at the 95th percentile")
            note = f"95th percentile {late:.2f} s, bound {_BOUND_S:.0f} s"
            rows.append(Outcome(f"cancel, {name}", tries, tries if late <= _BOUND_S else 0, others, took, note))
    return rows


def _cancel(there: Scene, id: str) -> float:
    began = time.monotonic()
    there.http.post(f"/evaluations/{id}/cancel").raise_for_status()
    while not there.ended([id]):
        if time.monotonic() > began + 60:
            raise TimeoutError(f"{id} was not cancelled")
        time.sleep(0.02)
    return time.monotonic() - began
