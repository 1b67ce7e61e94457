"""schemathesis at length: every operation of the API, its edges, random cases, chains of links, on real processes."""

from __future__ import annotations

from benchmarks.chaos.fixtures import chaos_environment
from benchmarks.chaos.outcome import FaultResult, ProgressCallback
from tests.hostile.fuzz import fuzz

MIN_CASES = 5000


def run(log_progress: ProgressCallback, *, examples: int = 200, seed: int = 0) -> list[FaultResult]:
    with chaos_environment(
        UNVEIL_ANONYMOUS_REQUESTS_PER_SECOND="100000", UNVEIL_ENCRYPT_TIMEOUT_S="120"
    ) as environment:
        result = fuzz(environment.stack.url, environment.stack.token, examples=examples, seed=seed)
    for kind, table in result.failures.items():
        log_progress(f"{kind}\n{table}")
    phases = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in result.phases.items())
    note = f"{len(result.operations)} operations; {phases}"
    survived = result.cases if result.cases >= MIN_CASES else 0
    return [FaultResult("schemathesis", result.cases, survived, len(result.failures), note=note)]
