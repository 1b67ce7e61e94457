"""A process dies at every named point of the code, between two writes: the result is the same as without."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
from sqlalchemy import func, select, update

from benchmarks.chaos import images
from benchmarks.chaos.fixtures import LONG, Scene, body, scene
from benchmarks.chaos.outcome import Outcome, Tell
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Dataset, Evaluation, Key
from unveil.app.local.supervisor import Child
from unveil.app.ops.storage_gc import find_orphans
from unveil.app.storage import Blobs

_ATTACK, _ENCRYPT, _API = "worker-attack", "worker-encrypt", "api"
_TRAINED = [{"name": "itn"}]
_PATIENCE_S = 180.0
_SHORT_BUDGETS = {"UNVEIL_UNPACK_BUDGET_S": "15", "UNVEIL_ENCRYPT_BUDGET_S": "15"}

Trial = Callable[[Scene, str], tuple[bool, float]]  # whether it ended as without, and the seconds to there


def run(tell: Tell, *, points: Sequence[str] | None = None) -> list[Outcome]:
    points = points or list(POINTS)
    survived, seconds = 0, []
    with scene(**_SHORT_BUDGETS) as there:
        for point in points:
            try:
                well, took = POINTS[point](there, point)
            except (TimeoutError, httpx.HTTPError) as error:
                tell(f"{point}: {type(error).__name__}: {error}")
                continue
            tell(f"{point}: {'as without' if well else 'NOT AS WITHOUT'}, after {took:.1f} s")
            survived += well
            seconds.append(took)
    note = "each named point once; figures compared to the bit with an undisturbed run"
    return [Outcome("crash points", len(points), survived, len(points) - survived, seconds, note)]


# --- jobs ---


def _cells(there: Scene, point: str) -> tuple[bool, float]:
    calm = _undisturbed(there)
    doomed = _doomed(there, _ATTACK, point)
    return _same_in_the_end(there, there.order(seed=1), doomed, calm)


def _network(there: Scene, point: str) -> tuple[bool, float]:
    calm = _undisturbed(there, _TRAINED)
    doomed = _doomed(there, _ATTACK, point)
    return _same_in_the_end(there, there.order(_TRAINED, seed=1), doomed, calm)


def _hand_back(there: Scene, point: str) -> tuple[bool, float]:
    attack, more = LONG[0]
    calm = _undisturbed(there, [attack], **more)
    doomed = _doomed(there, _ATTACK, point)
    id = there.order([attack], seed=1, **more)
    there.wait(lambda: there.at_work(id), "a cell at work", _PATIENCE_S)
    doomed.ask_to_stop()
    return _same_in_the_end(there, id, doomed, calm)


def _sweep(there: Scene, point: str) -> tuple[bool, float]:
    """Cells of a worker that was never there: only the sweeper can free them."""
    calm = _undisturbed(there)
    there.stack.stop_part(_ATTACK)
    there.stack.stop_part(_ENCRYPT)
    id = there.order(seed=1)
    with there.sessions.begin() as session:
        held = {"status": Status.RUNNING, "attempt": 1, "lease_owner": "a/1/b", "lease_until": func.clock_timestamp()}
        session.execute(update(Cell).where(Cell.evaluation_id == id).values(**held))
    doomed = there.stack.start_part(_ENCRYPT, UNVEIL_CRASH_POINT=point)
    _await_death(doomed)
    there.stack.start_part(_ATTACK)
    return _same_in_the_end(there, id, doomed, calm)


def _trained_key(there: Scene, point: str) -> tuple[bool, float]:
    """A cell that needs a trained key: the key is trained once more, to the same weights and so the same figures."""
    order = {"schemes": [{"name": "tn-gan"}], "seed": 1}
    calm = _undisturbed(there, [{"name": "none"}], **order)
    doomed = _doomed(there, _ATTACK, point)
    return _same_in_the_end(there, there.order([{"name": "none"}], **order), doomed, calm)


def _undisturbed(there: Scene, attacks: list[dict[str, Any]] | None = None, **changed: Any) -> list[Any]:
    id = there.order(attacks, **{"seed": 1, **changed})
    there.wait(lambda: there.ended([id]), "an undisturbed evaluation", _PATIENCE_S)
    return there.figures(id)


def _same_in_the_end(there: Scene, id: str, doomed: Child, calm: list[Any]) -> tuple[bool, float]:
    _await_death(doomed)
    seconds = there.wait(lambda: there.ended([id]), "the end of the evaluation", _PATIENCE_S)
    return there.figures(id) == calm and there.harmed([id]) == 0, seconds


# --- requests ---


def _order(there: Scene, point: str) -> tuple[bool, float]:
    calm = _undisturbed(there)
    _doomed(there, _API, point)
    given = {"json": body(seed=1, name=point), "headers": {"Idempotency-Key": point}}
    answer, seconds = there.repeated(lambda: there.http.post("/evaluations", **given))
    id = answer.raise_for_status().json()["id"]
    there.wait(lambda: there.ended([id]), "the end of the evaluation", _PATIENCE_S)
    with there.sessions() as session:
        twins = session.scalars(select(Evaluation.id).where(Evaluation.name == point)).all()
    return twins == [id] and there.figures(id) == calm and there.harmed([id]) == 0, seconds


def _stored_upload(there: Scene, point: str) -> tuple[bool, float]:
    return _upload(there, point, _API)


def _unpacked_upload(there: Scene, point: str) -> tuple[bool, float]:
    return _upload(there, point, _ENCRYPT)


def _upload(there: Scene, point: str, part: str) -> tuple[bool, float]:
    _doomed(there, part, point)
    name, headers = f"{point} of {part}", {"Idempotency-Key": f"{point} of {part}".replace(" ", "-")}
    answer, seconds = there.repeated(lambda: _send(there, name, headers))
    answer.raise_for_status()
    with there.sessions() as session:
        blobs = session.scalars(select(Dataset.blob).where(Dataset.name == name)).all()
    store = Blobs(there.stack.settings)
    return len(blobs) == 1 and store.exists(blobs[0]) and not list(store.names("uploads")), seconds


def _delete_dataset(there: Scene, point: str) -> tuple[bool, float]:
    id = _send(there, point, {}).raise_for_status().json()["id"]
    with there.sessions() as session:
        blob = session.get_one(Dataset, id).blob
    before = _orphans(there)
    _doomed(there, _API, point)
    answer, seconds = there.repeated(lambda: there.http.delete(f"/datasets/{id}"))
    # Deleted before the death, so the repeat finds nothing; the retention finds the blob, when it is a day old.
    return answer.status_code == 404 and _orphans(there) - before == {blob}, seconds


def _orphans(there: Scene) -> set[str]:
    with there.sessions() as session:
        return set(find_orphans(session, Blobs(there.stack.settings), older_than_s=0))


def _destroy_key(there: Scene, point: str, *, sweeper_too: bool = False) -> tuple[bool, float]:
    """Destroyed before the death, so the repeat says so; its weights go with the next sweep."""
    order = {"scheme": "tn-gan", "params": {"profile": "smoke", "dataset": images.NAME}}
    id = there.http.post("/keys", json=order).raise_for_status().json()["id"]
    there.wait(lambda: there.http.get(f"/keys/{id}").json()["status"] == "ready", "the key", _PATIENCE_S)
    blob = _key(there, id).blob
    sweeper = _doomed(there, _ENCRYPT, "weights-gone-before-row") if sweeper_too else None
    _doomed(there, _API, point)
    answer, seconds = there.repeated(lambda: there.http.delete(f"/keys/{id}"))
    if sweeper is not None:
        _await_death(sweeper)
    seconds += there.wait(lambda: _key(there, id).blob is None, "the sweep", _PATIENCE_S)
    gone = not Blobs(there.stack.settings).exists(str(blob))
    return answer.status_code == 410 and _key(there, id).sealed is None and gone, seconds


def _sweep_weights(there: Scene, point: str) -> tuple[bool, float]:  # noqa: ARG001 - the sweeper's, of what this left
    return _destroy_key(there, "key-destroyed-before-blob", sweeper_too=True)


def _key(there: Scene, id: str) -> Key:
    with there.sessions() as session:
        return session.get_one(Key, id)


def _encrypt(there: Scene, point: str) -> tuple[bool, float]:
    """The keys were stored before the death: the repeat uses them, and stores no others."""
    _doomed(there, _ENCRYPT, point)
    given = {"data": {"scheme": "tanaka"}, "headers": {"Idempotency-Key": point}}
    answer, seconds = there.repeated(
        lambda: there.http.post("/encrypt", files={"images": ("a.png", images.png(0), "image/png")}, **given)
    )
    made = answer.raise_for_status().json()["images"][0]["key_id"]
    again = there.http.get(f"/keys/{made}")
    return again.is_success and again.json()["uses"] == 1, seconds


def _send(there: Scene, name: str, headers: Mapping[str, str]) -> httpx.Response:
    form = {"name": name, "kind": "plain", "size": "24"}
    return there.http.post("/datasets", data=form, files={"archive": ("a.zip", images.archive())}, headers=headers)


# --- deaths ---


def _doomed(there: Scene, part: str, point: str) -> Child:
    """Start a part anew, to die at the point. What starts it again afterwards knows nothing of the point."""
    there.wait(there.stack.ready, "the stack", _PATIENCE_S)
    there.stack.stop_part(part)
    child = there.stack.start_part(part, UNVEIL_CRASH_POINT=point)
    there.wait(there.stack.ready if part != _ATTACK else there.answers, part, _PATIENCE_S)
    return child


def _await_death(child: Child) -> None:
    until = time.monotonic() + _PATIENCE_S
    while child.running:
        if time.monotonic() > until:
            raise TimeoutError(f"{child.name} never came to the point")
        time.sleep(0.02)
    if child.popen.returncode != -signal.SIGKILL:
        raise TimeoutError(f"{child.name} ended by itself:\n{child.last_words()}")


POINTS: Mapping[str, Trial] = {
    "job-claimed": _cells,
    "shared-made-before-kept": _network,
    "progress-written": _cells,
    "result-before-commit": _cells,
    "result-before-checkpoints-go": _cells,
    "job-over-before-acknowledgement": _cells,
    "checkpoint-written": _network,
    "handed-back-before-ring": _hand_back,
    "marked-sent-before-ring": _hand_back,
    "given-up-before-ring": _sweep,
    "sweep-before-ring": _sweep,
    "weights-before-row": _trained_key,
    "key-ready-before-ring": _trained_key,
    "key-reserved": _order,
    "order-before-commit": _order,
    "order-before-ring": _order,
    "order-before-answer": _order,
    "upload-before-unpacking": _stored_upload,
    "unpacked-before-row": _stored_upload,
    "blob-before-rename": _unpacked_upload,
    "blob-renamed": _unpacked_upload,
    "encrypted-before-answer": _encrypt,
    "dataset-deleted-before-blob": _delete_dataset,
    "key-destroyed-before-blob": _destroy_key,
    "weights-gone-before-row": _sweep_weights,
}
