"""A worker killed in the middle of a key's training, and one in the middle of protecting with that key: the training
ends at the same weights, and the request, repeated as its problem asks for, in the same pixels.

Both halves kill by turns a whole worker and its pool processes alone, which their parent replaces.
"""

from __future__ import annotations

import io
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
from PIL import Image

from benchmarks.chaos import images
from benchmarks.chaos.fixtures import ChaosEnvironment, chaos_environment
from benchmarks.chaos.outcome import FaultResult, ProgressCallback
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Key

# Seconds of training and of protecting, so that there is a middle.
_SETTINGS = {"images": 16, "width": 16, "blocks": 3, "epochs": 40}
_SIDE = 512
_TIMEOUT_S = 300.0


def run(log_progress: ProgressCallback, *, times: int = 4, seed: int = 0) -> list[FaultResult]:
    rng, first_answers = random.Random(seed), Counter[int]()
    training_trials, protect_trials = list[tuple[bool, float]](), list[tuple[bool, float]]()
    with chaos_environment(UNVEIL_ENCRYPT_TIMEOUT_S="15") as environment:
        for number in range(times):
            whole_worker = number % 2 == 0
            baseline_key = _create_key(environment, number)
            environment.wait_until(
                lambda id=baseline_key: _is_ready(environment, id), "the undisturbed key", _TIMEOUT_S
            )
            baseline_pixels = _decode(
                environment.retry_request(lambda id=baseline_key: _encrypt_image(environment, id))[0]
            )

            killed, attempts, elapsed = _kill_during_training(environment, number, whole_worker)
            same = (
                _decode(environment.retry_request(lambda id=killed: _encrypt_image(environment, id))[0])
                == baseline_pixels
            )
            training_trials.append((same and attempts > 1, elapsed))
            log_progress(
                f"training: {attempts} attempts, {'the same' if same else 'OTHER'} weights after {elapsed:.1f} s"
            )

            statuses, answer, elapsed = _kill_during_request(environment, killed, rng.uniform(0.3, 0.7), whole_worker)
            same = _decode(answer) == baseline_pixels
            first_answers[statuses[0]] += 1
            protect_trials.append((same and statuses[0] in (200, 503), elapsed))
            log_progress(
                f"protecting: answered {statuses}, {'the same' if same else 'OTHER'} image after {elapsed:.1f} s"
            )
    answer_counts = ", ".join(f"{count} times {status}" for status, count in sorted(first_answers.items()))
    return [
        _to_fault_result(
            "killed while a key is trained", training_trials, "tn-gan; protects as the key of an undisturbed training"
        ),
        _to_fault_result(
            "killed while it protects",
            protect_trials,
            f"first answers: {answer_counts}; seconds until the repeat is answered",
        ),
    ]


def _to_fault_result(fault: str, tries: list[tuple[bool, float]], note: str) -> FaultResult:
    survived = sum(well for well, _ in tries)
    return FaultResult(fault, len(tries), survived, len(tries) - survived, [took for _, took in tries], note)


def _kill_during_training(environment: ChaosEnvironment, seed: int, whole_worker: bool) -> tuple[str, int, float]:
    """A key whose first training was killed: its id, how often it was taken up, and the seconds until it was ready."""
    id = _create_key(environment, seed)
    environment.wait_until(lambda: _is_training(environment, id), "the middle of the training", _TIMEOUT_S)
    _kill_worker(environment, "worker-attack", whole_worker)
    elapsed = environment.wait_until(lambda: _is_ready(environment, id), "the key", _TIMEOUT_S)
    with environment.sessions() as session:
        return id, session.get_one(Key, id).attempt, elapsed


def _kill_during_request(
    environment: ChaosEnvironment, id: str, at: float, whole_worker: bool
) -> tuple[list[int], httpx.Response, float]:
    """Kill who protects at this share of the usual time: what was answered, the last answer, the seconds to it."""
    statuses: list[int] = []

    def send() -> httpx.Response:
        answer = _encrypt_image(environment, id)
        statuses.append(answer.status_code)
        return answer

    started_at = time.monotonic()
    environment.retry_request(lambda: _encrypt_image(environment, id))
    usual_seconds = time.monotonic() - started_at
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(environment.retry_request, send)
        time.sleep(at * usual_seconds)
        if statuses:
            raise TimeoutError("it was answered before anybody could be killed")
        _kill_worker(environment, "worker-encrypt", whole_worker)
        answer, elapsed = future.result()
    return statuses, answer, elapsed


def _create_key(environment: ChaosEnvironment, seed: int) -> str:
    order = {"profile": "smoke", "dataset": images.SMALL_DATASET, "seed": seed, **_SETTINGS}
    answer = environment.http.post("/keys", json={"scheme": "tn-gan", "params": order})
    return str(answer.raise_for_status().json()["id"])


def _encrypt_image(environment: ChaosEnvironment, id: str) -> httpx.Response:
    return environment.http.post(
        "/encrypt",
        files={"images": ("a.png", images.png(0, _SIDE), "image/png")},
        data={"key_id": id},
        headers={"Accept": "image/png"},
    )


def _decode(answer: httpx.Response) -> bytes:
    """The pixels; the file also names its key, and each training makes another key."""
    with Image.open(io.BytesIO(answer.raise_for_status().content)) as image:
        return image.tobytes()


def _is_ready(environment: ChaosEnvironment, id: str) -> bool:
    status = environment.http.get(f"/keys/{id}").raise_for_status().json()["status"]
    if status == "failed":
        raise RuntimeError(f"the training of {id} failed")
    return bool(status == "ready")


def _is_training(environment: ChaosEnvironment, id: str) -> bool:
    with environment.sessions() as session:
        key = session.get_one(Key, id)
        return key.status == Status.RUNNING and key.progress > 0.05


def _kill_worker(environment: ChaosEnvironment, part: str, whole_worker: bool) -> None:
    if whole_worker:
        environment.kill(part)
        return
    for process in psutil.Process(environment.pid(part)).children():
        process.kill()
