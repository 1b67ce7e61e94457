"""A worker killed in the middle of a key's training, and one in the middle of protecting with that key: the training
ends at the same weights, and the request, repeated as its problem asks for, in the same images to the byte.

Both halves kill by turns a whole worker and its pool processes alone, which their parent replaces.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil

from benchmarks.chaos import images
from benchmarks.chaos.fixtures import Scene, scene
from benchmarks.chaos.outcome import Outcome, Tell
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Key

# Seconds of training and of protecting, so that there is a middle.
_SETTINGS = {"images": 16, "width": 16, "blocks": 3, "epochs": 40}
_SIDE = 512
_PATIENCE_S = 300.0


def run(tell: Tell, *, times: int = 4, seed: int = 0) -> list[Outcome]:
    dice, first_answers = random.Random(seed), Counter[int]()
    trained, protected = list[tuple[bool, float]](), list[tuple[bool, float]]()
    with scene(UNVEIL_ENCRYPT_BUDGET_S="15") as there:
        for number in range(times):
            whole = number % 2 == 0
            calm = _order(there, number)
            there.wait(lambda id=calm: _ready(there, id), "the undisturbed key", _PATIENCE_S)
            pictures = there.repeated(lambda id=calm: _protect(there, id))[0].raise_for_status().content

            killed, attempts, took = _kill_its_training(there, number, whole)
            same = there.repeated(lambda id=killed: _protect(there, id))[0].content == pictures
            trained.append((same and attempts > 1, took))
            tell(f"training: {attempts} attempts, {'the same' if same else 'OTHER'} weights after {took:.1f} s")

            statuses, answer, took = _kill_its_request(there, killed, dice.uniform(0.3, 0.7), whole)
            same = answer.content == pictures
            first_answers[statuses[0]] += 1
            protected.append((same and statuses[0] in (200, 503), took))
            tell(f"protecting: answered {statuses}, {'the same' if same else 'OTHER'} image after {took:.1f} s")
    said = ", ".join(f"{count} times {status}" for status, count in sorted(first_answers.items()))
    return [
        _outcome("killed while a key is trained", trained, "tn-gan; protects as the key of an undisturbed training"),
        _outcome("killed while it protects", protected, f"first answers: {said}; seconds until the repeat is answered"),
    ]


def _outcome(fault: str, tries: list[tuple[bool, float]], note: str) -> Outcome:
    survived = sum(well for well, _ in tries)
    return Outcome(fault, len(tries), survived, len(tries) - survived, [took for _, took in tries], note)


def _kill_its_training(there: Scene, seed: int, whole: bool) -> tuple[str, int, float]:
    """A key whose first training was killed: its id, how often it was taken up, and the seconds until it was ready."""
    id = _order(there, seed)
    there.wait(lambda: _in_the_middle(there, id), "the middle of the training", _PATIENCE_S)
    _kill(there, "worker-attack", whole)
    took = there.wait(lambda: _ready(there, id), "the key", _PATIENCE_S)
    with there.sessions() as session:
        return id, session.get_one(Key, id).attempt, took


def _kill_its_request(there: Scene, id: str, at: float, whole: bool) -> tuple[list[int], httpx.Response, float]:
    """Kill who protects at this share of the usual time: what was answered, the last answer, the seconds to it."""
    statuses: list[int] = []

    def ask() -> httpx.Response:
        answer = _protect(there, id)
        statuses.append(answer.status_code)
        return answer

    began = time.monotonic()
    there.repeated(lambda: _protect(there, id))
    usual = time.monotonic() - began
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(there.repeated, ask)
        time.sleep(at * usual)
        if statuses:
            raise TimeoutError("it was answered before anybody could be killed")
        _kill(there, "worker-encrypt", whole)
        answer, took = asked.result()
    return statuses, answer, took


def _order(there: Scene, seed: int) -> str:
    order = {"profile": "smoke", "dataset": images.NAME, "seed": seed, **_SETTINGS}
    answer = there.http.post("/keys", json={"scheme": "tn-gan", "params": order})
    return str(answer.raise_for_status().json()["id"])


def _protect(there: Scene, id: str) -> httpx.Response:
    return there.http.post(
        "/encrypt",
        files={"images": ("a.png", images.png(0, _SIDE), "image/png")},
        data={"key_id": id},
        headers={"Accept": "image/png"},
    )


def _ready(there: Scene, id: str) -> bool:
    status = there.http.get(f"/keys/{id}").raise_for_status().json()["status"]
    if status == "failed":
        raise RuntimeError(f"the training of {id} failed")
    return bool(status == "ready")


def _in_the_middle(there: Scene, id: str) -> bool:
    with there.sessions() as session:
        key = session.get_one(Key, id)
        return key.status == Status.RUNNING and key.progress > 0.05


def _kill(there: Scene, part: str, whole: bool) -> None:
    if whole:
        there.kill(part)
        return
    for process in psutil.Process(there.pid(part)).children():
        process.kill()
