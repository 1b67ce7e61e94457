"""A process dies at every named point of the code, between two writes: the result is the same as without."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
from sqlalchemy import func, select, update

from benchmarks.chaos import images
from benchmarks.chaos.fixtures import LONG_ORDERS, ChaosEnvironment, chaos_environment, evaluation_body
from benchmarks.chaos.outcome import FaultResult, ProgressCallback
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Dataset, Evaluation, Key
from unveil.app.local.supervisor import ChildProcess
from unveil.app.ops.storage_gc import find_orphaned_blobs
from unveil.app.storage import BlobStore

_ATTACK_WORKER, _ENCRYPT_WORKER, _API = "worker-attack", "worker-encrypt", "api"
_TRAINING_ATTACK = [{"name": "itn"}]
_TIMEOUT_S = 180.0
_SHORT_TIMEOUTS = {"UNVEIL_UNPACK_TIMEOUT_S": "15", "UNVEIL_ENCRYPT_TIMEOUT_S": "15"}

Trial = Callable[[ChaosEnvironment, str], tuple[bool, float]]  # whether it ended as without, and the seconds to there


def run(log_progress: ProgressCallback, *, points: Sequence[str] | None = None) -> list[FaultResult]:
    points = points or list(TRIAL_BY_POINT)
    survived, seconds = 0, []
    with chaos_environment(**_SHORT_TIMEOUTS) as environment:
        for point in points:
            try:
                is_unchanged, elapsed = TRIAL_BY_POINT[point](environment, point)
            except (TimeoutError, httpx.HTTPError) as error:
                log_progress(f"{point}: {type(error).__name__}: {error}")
                continue
            log_progress(f"{point}: {'as without' if is_unchanged else 'NOT AS WITHOUT'}, after {elapsed:.1f} s")
            survived += is_unchanged
            seconds.append(elapsed)
    note = "each named point once; figures compared to the bit with an undisturbed run"
    return [FaultResult("crash points", len(points), survived, len(points) - survived, seconds, note)]


# --- jobs ---


def _crash_in_cell(environment: ChaosEnvironment, point: str) -> tuple[bool, float]:
    baseline = _baseline_results(environment)
    crashing = _start_crashing(environment, _ATTACK_WORKER, point)
    return _compare_with_baseline(environment, environment.create_evaluation(seed=1), crashing, baseline)


def _crash_in_training(environment: ChaosEnvironment, point: str) -> tuple[bool, float]:
    baseline = _baseline_results(environment, _TRAINING_ATTACK)
    crashing = _start_crashing(environment, _ATTACK_WORKER, point)
    return _compare_with_baseline(
        environment, environment.create_evaluation(_TRAINING_ATTACK, seed=1), crashing, baseline
    )


def _crash_in_release(environment: ChaosEnvironment, point: str) -> tuple[bool, float]:
    attack, extra_order = LONG_ORDERS[0]
    baseline = _baseline_results(environment, [attack], **extra_order)
    crashing = _start_crashing(environment, _ATTACK_WORKER, point)
    id = environment.create_evaluation([attack], seed=1, **extra_order)
    environment.wait_until(lambda: environment.is_running(id), "a cell at work", _TIMEOUT_S)
    crashing.terminate()
    return _compare_with_baseline(environment, id, crashing, baseline)


def _crash_in_sweep(environment: ChaosEnvironment, point: str) -> tuple[bool, float]:
    """Cells of a worker that was never there: only the sweeper can free them."""
    baseline = _baseline_results(environment)
    environment.stack.stop_service(_ATTACK_WORKER)
    environment.stack.stop_service(_ENCRYPT_WORKER)
    id = environment.create_evaluation(seed=1)
    with environment.sessions.begin() as session:
        leased = {"status": Status.RUNNING, "attempt": 1, "lease_owner": "a/1/b", "lease_until": func.clock_timestamp()}
        session.execute(update(Cell).where(Cell.evaluation_id == id).values(**leased))
    crashing = environment.stack.start_service(_ENCRYPT_WORKER, UNVEIL_CRASH_POINT=point)
    _wait_for_death(crashing)
    environment.stack.start_service(_ATTACK_WORKER)
    return _compare_with_baseline(environment, id, crashing, baseline)


def _crash_in_key_training(environment: ChaosEnvironment, point: str) -> tuple[bool, float]:
    """A cell that needs a trained key: the key is trained once more, to the same weights and so the same figures."""
    order = {"schemes": [{"name": "tn-gan"}], "seed": 1}
    baseline = _baseline_results(environment, [{"name": "none"}], **order)
    crashing = _start_crashing(environment, _ATTACK_WORKER, point)
    return _compare_with_baseline(
        environment, environment.create_evaluation([{"name": "none"}], **order), crashing, baseline
    )


def _baseline_results(
    environment: ChaosEnvironment, attacks: list[dict[str, Any]] | None = None, **overrides: Any
) -> list[Any]:
    id = environment.create_evaluation(attacks, **{"seed": 1, **overrides})
    environment.wait_until(lambda: environment.have_ended([id]), "an undisturbed evaluation", _TIMEOUT_S)
    return environment.measured_results(id)


def _compare_with_baseline(
    environment: ChaosEnvironment, id: str, crashing: ChildProcess, baseline: list[Any]
) -> tuple[bool, float]:
    _wait_for_death(crashing)
    seconds = environment.wait_until(lambda: environment.have_ended([id]), "the end of the evaluation", _TIMEOUT_S)
    return environment.measured_results(id) == baseline and environment.count_damaged_cells([id]) == 0, seconds


# --- requests ---


def _crash_in_create(environment: ChaosEnvironment, point: str) -> tuple[bool, float]:
    baseline = _baseline_results(environment)
    _start_crashing(environment, _API, point)
    request = {"json": evaluation_body(seed=1, name=point), "headers": {"Idempotency-Key": point}}
    answer, seconds = environment.retry_request(lambda: environment.http.post("/evaluations", **request))
    id = answer.raise_for_status().json()["id"]
    environment.wait_until(lambda: environment.have_ended([id]), "the end of the evaluation", _TIMEOUT_S)
    with environment.sessions() as session:
        evaluation_ids = session.scalars(select(Evaluation.id).where(Evaluation.name == point)).all()
    return evaluation_ids == [id] and environment.measured_results(id) == baseline and environment.count_damaged_cells(
        [id]
    ) == 0, seconds


def _crash_api_in_upload(environment: ChaosEnvironment, point: str) -> tuple[bool, float]:
    return _crash_in_upload(environment, point, _API)


def _crash_worker_in_upload(environment: ChaosEnvironment, point: str) -> tuple[bool, float]:
    return _crash_in_upload(environment, point, _ENCRYPT_WORKER)


def _crash_in_upload(environment: ChaosEnvironment, point: str, part: str) -> tuple[bool, float]:
    _start_crashing(environment, part, point)
    name, headers = f"{point} of {part}", {"Idempotency-Key": f"{point} of {part}".replace(" ", "-")}
    answer, seconds = environment.retry_request(lambda: _upload_dataset(environment, name, headers))
    answer.raise_for_status()
    with environment.sessions() as session:
        blobs = session.scalars(select(Dataset.blob).where(Dataset.name == name)).all()
    store = BlobStore(environment.stack.settings)
    return len(blobs) == 1 and store.exists(blobs[0]) and not list(store.list_folder("uploads")), seconds


def _crash_in_delete(environment: ChaosEnvironment, point: str) -> tuple[bool, float]:
    id = _upload_dataset(environment, point, {}).raise_for_status().json()["id"]
    with environment.sessions() as session:
        blob = session.get_one(Dataset, id).blob
    orphans_before = _find_orphans(environment)
    _start_crashing(environment, _API, point)
    answer, seconds = environment.retry_request(lambda: environment.http.delete(f"/datasets/{id}"))
    # Deleted before the death, so the repeat finds nothing; the retention finds the blob, when it is a day old.
    return answer.status_code == 404 and _find_orphans(environment) - orphans_before == {blob}, seconds


def _find_orphans(environment: ChaosEnvironment) -> set[str]:
    with environment.sessions() as session:
        return set(find_orphaned_blobs(session, BlobStore(environment.stack.settings), older_than_s=0))


def _crash_in_destroy_key(
    environment: ChaosEnvironment, point: str, *, sweeper_too: bool = False
) -> tuple[bool, float]:
    """Destroyed before the death, so the repeat says so; its weights go with the next sweep."""
    order = {"scheme": "tn-gan", "params": {"profile": "smoke", "dataset": images.SMALL_DATASET}}
    id = environment.http.post("/keys", json=order).raise_for_status().json()["id"]
    environment.wait_until(
        lambda: environment.http.get(f"/keys/{id}").json()["status"] == "ready", "the key", _TIMEOUT_S
    )
    blob = _get_key(environment, id).weights_blob
    sweeper = _start_crashing(environment, _ENCRYPT_WORKER, "weights-gone-before-row") if sweeper_too else None
    _start_crashing(environment, _API, point)
    answer, seconds = environment.retry_request(lambda: environment.http.delete(f"/keys/{id}"))
    if sweeper is not None:
        _wait_for_death(sweeper)
    seconds += environment.wait_until(lambda: _get_key(environment, id).weights_blob is None, "the sweep", _TIMEOUT_S)
    gone = not BlobStore(environment.stack.settings).exists(str(blob))
    return answer.status_code == 410 and _get_key(environment, id).wrapped_key is None and gone, seconds


def _crash_in_sweep_of_weights(environment: ChaosEnvironment, point: str) -> tuple[bool, float]:  # noqa: ARG001 - the sweeper's, of what this left
    return _crash_in_destroy_key(environment, "key-destroyed-before-blob", sweeper_too=True)


def _get_key(environment: ChaosEnvironment, id: str) -> Key:
    with environment.sessions() as session:
        return session.get_one(Key, id)


def _crash_in_encrypt(environment: ChaosEnvironment, point: str) -> tuple[bool, float]:
    """The keys were stored before the death: the repeat uses them, and stores no others."""
    _start_crashing(environment, _ENCRYPT_WORKER, point)
    request = {"data": {"scheme": "tanaka"}, "headers": {"Idempotency-Key": point}}
    answer, seconds = environment.retry_request(
        lambda: environment.http.post("/encrypt", files={"images": ("a.png", images.png(0), "image/png")}, **request)
    )
    key_id = answer.raise_for_status().json()["images"][0]["key_id"]
    key_response = environment.http.get(f"/keys/{key_id}")
    return key_response.is_success and key_response.json()["uses"] == 1, seconds


def _upload_dataset(environment: ChaosEnvironment, name: str, headers: Mapping[str, str]) -> httpx.Response:
    form = {"name": name, "kind": "plain", "size": "24"}
    return environment.http.post(
        "/datasets", data=form, files={"archive": ("a.zip", images.archive())}, headers=headers
    )


# --- deaths ---


def _start_crashing(environment: ChaosEnvironment, part: str, point: str) -> ChildProcess:
    """Start a part anew, to die at the point. What starts it again afterwards knows nothing of the point."""
    environment.wait_until(environment.stack.is_ready, "the stack", _TIMEOUT_S)
    environment.stack.stop_service(part)
    child = environment.stack.start_service(part, UNVEIL_CRASH_POINT=point)
    environment.wait_until(
        environment.stack.is_ready if part != _ATTACK_WORKER else environment.is_live, part, _TIMEOUT_S
    )
    return child


def _wait_for_death(child: ChildProcess) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while child.running:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{child.name} never came to the point")
        time.sleep(0.02)
    if child.popen.returncode != -signal.SIGKILL:
        raise TimeoutError(f"{child.name} ended by itself:\n{child.log_tail()}")


TRIAL_BY_POINT: Mapping[str, Trial] = {
    "job-claimed": _crash_in_cell,
    "artifact-computed-before-stored": _crash_in_training,
    "progress-written": _crash_in_cell,
    "result-before-commit": _crash_in_cell,
    "result-before-checkpoints-go": _crash_in_cell,
    "job-over-before-acknowledgement": _crash_in_cell,
    "checkpoint-written": _crash_in_training,
    "released-before-dispatch": _crash_in_release,
    "lease-expired-before-dispatch": _crash_in_sweep,
    "sweep-before-dispatch": _crash_in_sweep,
    "weights-before-row": _crash_in_key_training,
    "key-ready-before-dispatch": _crash_in_key_training,
    "key-reserved": _crash_in_create,
    "create-before-commit": _crash_in_create,
    "create-before-dispatch": _crash_in_create,
    "create-before-response": _crash_in_create,
    "upload-before-unpacking": _crash_api_in_upload,
    "unpacked-before-row": _crash_api_in_upload,
    "blob-before-rename": _crash_worker_in_upload,
    "blob-renamed": _crash_worker_in_upload,
    "encrypted-before-answer": _crash_in_encrypt,
    "dataset-deleted-before-blob": _crash_in_delete,
    "key-destroyed-before-blob": _crash_in_destroy_key,
    "weights-gone-before-row": _crash_in_sweep_of_weights,
}
