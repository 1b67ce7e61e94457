"""Whether time tells account B that an id of A exists: each address with an id of A and with one never given out."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import httpx
from scipy.stats import rankdata

from benchmarks.chaos.fixtures import chaos_environment
from benchmarks.chaos.outcome import FaultResult, ProgressCallback
from tests.hostile.conftest import NO_RECEIVER
from tests.hostile.cross_tenant import UNKNOWN, create_resources, list_endpoints
from tests.sample_images import archive, classes
from unveil.app.main import create_app
from unveil.app.security.principal import SCOPES
from unveil.app.settings import Settings

_MAX_RANK_SCORE = 4.5  # standard deviations of the rank sum: of twenty addresses none comes that far by chance


def run(log_progress: ProgressCallback, *, tries: int = 400) -> list[FaultResult]:
    owned_stops = [stop for stop in list_endpoints(create_app(Settings())) if stop.is_owned]
    distinguishable, leaks, worst = 0, 0, 0.0
    with chaos_environment(
        UNVEIL_ANONYMOUS_REQUESTS_PER_SECOND="100000", UNVEIL_WEBHOOK_ALLOWED_NETWORKS="127.0.0.1/32"
    ) as environment:
        ids = create_resources(environment.http, archive(classes(5)), NO_RECEIVER)
        environment.wait_until(lambda: environment.have_ended([ids["evaluation"]]), "the owner's evaluation")
        scopes = [scope for scope in SCOPES if scope != "admin"]
        token = environment.http.post("/accounts", json={"name": "stranger", "scopes": scopes}).json()["token"]
        with httpx.Client(
            base_url=environment.stack.url, headers={"Origin": environment.stack.url}, timeout=30
        ) as browser:
            assert browser.post("/sign-in", data={"token": token}).status_code == 303
            api = {"Authorization": f"Bearer {token}"}
            for stop in owned_stops:
                headers = {} if stop.path.startswith("/dashboard") else api
                times: tuple[list[float], list[float]] = ([], [])
                for _ in range(tries):
                    for index, ids_used in enumerate((ids, UNKNOWN)):
                        started_at = time.perf_counter()
                        answer = browser.request(stop.method, stop.address(ids_used), headers=headers, **stop.body)
                        times[index].append(time.perf_counter() - started_at)
                        leaks += answer.status_code != 404
                score = abs(_rank_score(*times))
                worst = max(worst, score)
                distinguishable += score > _MAX_RANK_SCORE
                if score > _MAX_RANK_SCORE:
                    log_progress(f"{stop.method} {stop.path}: {score:.1f} standard deviations apart")
    note = f"{len(owned_stops)} addresses, {tries} pairs each; the furthest apart: {worst:.1f} standard deviations"
    return [
        FaultResult("another's ids, by time", len(owned_stops), len(owned_stops) - distinguishable, leaks, note=note)
    ]


def _rank_score(first_times: Sequence[float], second_times: Sequence[float]) -> float:
    """How many standard deviations the rank sum of `first` is from what equal distributions would give."""
    count = len(first_times)
    ranks = rankdata([*first_times, *second_times])[:count].sum()
    mean = count * (2 * count + 1) / 2
    return float((ranks - mean) / math.sqrt(count * count * (2 * count + 1) / 12))
