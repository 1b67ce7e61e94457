"""schemathesis at length: every operation of the API, its edges, random cases, chains of links, on real processes."""

from __future__ import annotations

from benchmarks.chaos.fixtures import scene
from benchmarks.chaos.outcome import Outcome, Tell
from tests.hostile.fuzz import fuzz

LEAST = 5000


def run(tell: Tell, *, examples: int = 200, seed: int = 0) -> list[Outcome]:
    with scene(UNVEIL_STRANGERS_PER_SECOND="100000", UNVEIL_ENCRYPT_BUDGET_S="120") as there:
        found = fuzz(there.stack.url, there.stack.token, examples=examples, seed=seed)
    for kind, shown in found.failures.items():
        tell(f"{kind}\n{shown}")
    phases = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in found.phases.items())
    note = f"{len(found.operations)} operations; {phases}"
    survived = found.cases if found.cases >= LEAST else 0
    return [Outcome("schemathesis", found.cases, survived, len(found.failures), note=note)]
