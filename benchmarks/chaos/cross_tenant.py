"""Whether time tells account B that an id of A exists: each address with an id of A and with one never given out."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import httpx
from scipy.stats import rankdata

from benchmarks.chaos.fixtures import scene
from benchmarks.chaos.outcome import Outcome, Tell
from tests.hostile.cross_tenant import UNKNOWN, furnish, stops
from tests.sample_images import archive, classes
from unveil.app.main import create_app
from unveil.app.security.principal import SCOPES
from unveil.app.settings import Settings

_TELLING = 4.5  # standard deviations of the rank sum: of twenty addresses none comes that far by chance


def run(tell: Tell, *, tries: int = 400) -> list[Outcome]:
    walked = [stop for stop in stops(create_app(Settings())) if stop.owned]
    telling, leaks, worst = 0, 0, 0.0
    with scene(UNVEIL_STRANGERS_PER_SECOND="100000") as there:
        ids = furnish(there.http, archive(classes(5)))
        there.wait(lambda: there.ended([ids["evaluation"]]), "the owner's evaluation")
        scopes = [scope for scope in SCOPES if scope != "admin"]
        token = there.http.post("/accounts", json={"name": "stranger", "scopes": scopes}).json()["token"]
        with httpx.Client(base_url=there.stack.url, headers={"Origin": there.stack.url}, timeout=30) as browser:
            assert browser.post("/sign-in", data={"token": token}).status_code == 303
            api = {"Authorization": f"Bearer {token}"}
            for stop in walked:
                headers = {} if stop.path.startswith("/dashboard") else api
                times: tuple[list[float], list[float]] = ([], [])
                for _ in range(tries):
                    for place, whose in enumerate((ids, UNKNOWN)):
                        began = time.perf_counter()
                        answer = browser.request(stop.method, stop.address(whose), headers=headers)
                        times[place].append(time.perf_counter() - began)
                        leaks += answer.status_code != 404
                score = abs(_rank_score(*times))
                worst = max(worst, score)
                telling += score > _TELLING
                if score > _TELLING:
                    tell(f"{stop.method} {stop.path}: {score:.1f} standard deviations apart")
    note = f"{len(walked)} addresses, {tries} pairs each; the furthest apart: {worst:.1f} standard deviations"
    return [Outcome("another's ids, by time", len(walked), len(walked) - telling, leaks, note=note)]


def _rank_score(first: Sequence[float], second: Sequence[float]) -> float:
    """How many standard deviations the rank sum of `first` is from what equal distributions would give."""
    count = len(first)
    ranks = rankdata([*first, *second])[:count].sum()
    mean = count * (2 * count + 1) / 2
    return float((ranks - mean) / math.sqrt(count * count * (2 * count + 1) / 12))
