"""One cell of an evaluation: claim its row, run the science, write everything that came of it in one transaction."""

from __future__ import annotations

import ctypes
import json
import logging
import math
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Any

from kombu.exceptions import OperationalError as BrokerAway
from sqlalchemy import func, select, update
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from app import queue
from app.core.crypto import Unreadable
from app.core.states import Status
from app.db import journal
from app.db.tables import Cell, Curve, Evaluation, Key, Sample, Scores
from models import __version__, catalog
from models.attacks.base import AttackFailed, Context
from models.catalog import ParameterError, make_attack, make_scheme
from models.datasets import DatasetMissing
from models.evaluation import CellResult, Options, run_cell
from models.external import run_external
from models.images import to_png
from worker import lease, shutdown
from worker.data import load_data
from worker.lease import CancelRequested, HandedBack, Lease, LostLease, Watch
from worker.runtime import Runtime

log = logging.getLogger(__name__)

_REPORT_S = 1.0  # at most one progress event in this time
_PROGRESS = 0.01  # so much further than any attempt before is progress, and clears the count of stalls
_STORE_FOR_S = 600.0  # how long a finished result waits for a database that is away


class KeyUnusable(Exception):
    """The key that an entry names is destroyed, not ready, or cannot be opened."""


@dataclass(frozen=True)
class Order:
    """All that a cell needs, read once at its claim."""

    lease: Lease
    evaluation_id: str
    account_id: str
    settings: dict[str, Any]
    scheme: dict[str, Any]
    attack: dict[str, Any]
    progress: float  # the furthest of the attempts before


def handle(tools: Runtime, id: str) -> None:
    """Run cell `id` if it waits to be run."""
    if shutdown.requested.is_set():
        return
    with shutdown.working():
        order = claim(tools, id)
        if order is None:
            log.info("cell %s is not to be taken", id)
            return
        settings = tools.settings
        try:
            with Watch(
                tools.sessions,
                order.lease,
                lease_s=settings.lease_s,
                heartbeat_s=settings.heartbeat_s,
                hand_back=lambda: hand_back(tools, order),
            ) as watch:
                _work(tools, order, watch)
        except LostLease:
            log.warning("cell %s was given to another worker; attempt %d stops", id, order.lease.attempt)
        except HandedBack:
            log.info("cell %s is handed back: this worker shuts down", id)


def claim(tools: Runtime, id: str) -> Order | None:
    with tools.sessions.begin() as session:
        evaluation_id = session.scalar(select(Cell.evaluation_id).where(Cell.id == id))
        evaluation = None if evaluation_id is None else journal.lock(session, evaluation_id)
        if evaluation is None:
            return None
        taken = lease.claim(session, Cell, id, tools.owner, tools.settings.lease_s)
        if taken is None:
            return None
        journal.cell_changed(session, evaluation, id)
        cell = session.get_one(Cell, id)
        return Order(
            taken, evaluation.id, evaluation.account_id, evaluation.settings, cell.scheme, cell.attack, cell.progress
        )


def hand_back(tools: Runtime, order: Order) -> None:
    """Queue the cell for another worker. Raises LostLease."""
    with tools.sessions.begin() as session:
        evaluation = _lock(session, order)
        lease.hand_back(session, order.lease)
        journal.cell_changed(session, evaluation, order.lease.id)
    with suppress(BrokerAway):  # the sweeper will ring
        ring(tools, [order.lease.id])


def ring(tools: Runtime, ids: list[str]) -> None:
    with tools.sessions.begin() as session:
        session.execute(update(Cell).where(Cell.id.in_(ids)).values(sent_at=func.clock_timestamp()))
    queue.ring(tools.celery, queue.RUN_CELL, *ids)


# --- the work ---------------------------------------------------------------------------------------------------


def _work(tools: Runtime, order: Order, watch: Watch) -> None:
    """Raises LostLease, HandedBack; everything else ends the cell."""
    reporter = Reporter(tools, order, watch)
    try:
        result = _evaluate(tools, order, reporter)
    except CancelRequested:
        _store(tools, order, lambda session: lease.end(session, order.lease, Status.CANCELLED))
    except (LostLease, HandedBack):
        raise
    except DBAPIError:
        raise  # not the cell's fault: its lease runs out and it is tried again
    except Exception as error:
        failure = failure_of(error)
        if failure["code"] == "internal":
            log.exception("cell %s failed", order.lease.id)
        _store(tools, order, lambda session: lease.end(session, order.lease, Status.FAILED, error=failure))
    else:
        rows = _rows(order, result, reporter.curves)
        values = _values(tools, order, result)

        def write(session: Session) -> None:
            lease.end(session, order.lease, Status.SUCCEEDED, **values)
            session.add_all(rows)

        _store(tools, order, write)
    # Not before the end is written: a worker killed here leaves a folder, never a cell without its checkpoints.
    tools.blobs.drop_folder(_checkpoints(order))


def _evaluate(tools: Runtime, order: Order, reporter: Reporter) -> CellResult:
    settings = order.settings
    profile = settings["profile"]
    attack = make_attack(*_entry(order.attack), profile)
    reporter.report(0.0, "loading images")
    external = order.scheme["name"] == catalog.EXTERNAL
    data = load_data(tools, order.account_id, order.scheme["dataset"] if external else settings["dataset"])
    public = settings["public_dataset"] and load_data(tools, order.account_id, settings["public_dataset"]).train
    options = Options(
        seed=settings["seed"],
        keys=settings["keys"],
        samples=settings["samples"],
        ssim_mode=settings["ssim_mode"],
        profile=profile,
    )
    context = Context(
        seed=settings["seed"],
        device=device(tools.settings.device),
        workdir=tools.blobs.folder(_checkpoints(order)),
        report=reporter.report,
        metric=reporter.metric,
    )
    reporter.report(0.0, "running")
    if external:
        return run_external(attack, data, options, context, public=public)
    scheme = make_scheme(*_entry(order.scheme), profile)
    secret = _secret(tools, order)
    return run_cell(scheme, attack, data, options, context, secret=secret, public=public)


def _checkpoints(order: Order) -> str:
    """Where a cell's training goes on after a crash: kept until the cell has ended."""
    return f"checkpoints/{order.lease.id}"


def _entry(entry: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and settings of a scheme or an attack, without what says where its key or images come from."""
    return entry["name"], {k: v for k, v in entry.items() if k not in ("name", "key_id", "dataset", "added")}


def _secret(tools: Runtime, order: Order) -> bytes | None:
    """The secret of the key that the entry names; None: keys are drawn from the seed. Raises KeyUnusable."""
    key_id = order.scheme.get("key_id")
    if key_id is None:
        return None
    with tools.sessions() as session:
        key = session.scalar(select(Key).where(Key.id == key_id, Key.account_id == order.account_id))
    if key is None or key.sealed is None:
        raise KeyUnusable(f"key {key_id} was destroyed or has no secret yet")
    try:
        return tools.ring.open(key.sealed, purpose="key", owner=order.account_id, id=key.id)
    except Unreadable:
        raise KeyUnusable(f"key {key_id} cannot be opened with this service's master keys") from None


@cache
def device(wanted: str) -> str:
    """`auto` is the GPU where there is one."""
    if wanted != "auto":
        return wanted
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:  # no driver: spares cells that need no torch its import of seconds
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def failure_of(error: Exception) -> dict[str, str]:
    """What a caller reads of a failed cell: a code to act on, and a sentence."""
    code = "internal"
    if isinstance(error, DatasetMissing):
        code = "dataset_missing"
    elif isinstance(error, AttackFailed):
        code = "attack_failed"
    elif isinstance(error, KeyUnusable):
        code = "key_unusable"
    elif isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's own, by name
        code = "out_of_memory"
    elif isinstance(error, (ParameterError, ValueError)):
        code = "invalid_material"
    if code == "internal":
        # its text was not written for callers, and may hold what they must not see
        return {"code": code, "detail": f"{type(error).__name__}; the worker's log has the details"}
    return {"code": code, "detail": str(error) or type(error).__name__}


# --- what is written --------------------------------------------------------------------------------------------


@dataclass
class Reporter:
    """Progress and metrics of a running cell, at most one write a second, each behind the fence."""

    tools: Runtime
    order: Order
    watch: Watch
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    _fraction: float = 0.0
    _phase: str = ""
    _unsent: dict[str, list[list[float]]] = field(default_factory=dict)
    _next: float = 0.0

    def report(self, fraction: float, phase: str) -> None:
        self._fraction, self._phase = max(0.0, min(1.0, fraction)), phase
        self._flush()

    def metric(self, name: str, step: int, value: float) -> None:
        if math.isfinite(value):
            for points in (self.curves, self._unsent):
                points.setdefault(name, []).append([step, float(value)])
        self._flush()

    def _flush(self) -> None:
        self.watch.check()
        if time.monotonic() < self._next:
            return
        try:
            self._write()
        except DBAPIError as away:  # the lease decides how long we go on without a database
            log.warning("progress of cell %s is not written: %s", self.order.lease.id, away.orig)
        self._next = time.monotonic() + _REPORT_S

    def _write(self) -> None:
        order = self.order
        values: dict[str, Any] = {
            # an attempt that starts over does not move the bar back
            "progress": func.greatest(Cell.progress, self._fraction),
            "phase": self._phase,
        }
        if self._fraction >= order.progress + _PROGRESS:
            values["stalls"] = 0
        with self.tools.sessions.begin() as session:
            evaluation = _lock(session, order)
            lease.write(session, order.lease, **values)
            cell = session.get_one(Cell, order.lease.id, populate_existing=True)
            told = {"cell": cell.id, "progress": cell.progress, "phase": cell.phase}
            journal.record(
                session, evaluation, "progress", {**told, "evaluation": journal.overview(session, evaluation.id)}
            )
            for name, points in self._unsent.items():
                journal.record(session, evaluation, "metric", {"cell": cell.id, "name": name, "points": points})
        self._unsent = {}


def _store(tools: Runtime, order: Order, write: Any) -> None:
    """End the cell, in one transaction with all that came of it; hours of work outlast a restart of the database."""
    patience = time.monotonic() + _STORE_FOR_S
    pause = 0.5
    while True:
        try:
            with tools.sessions.begin() as session:
                evaluation = _lock(session, order)
                write(session)
                session.flush()
                journal.cell_changed(session, evaluation, order.lease.id)
            return
        except OperationalError as away:
            # If the commit went through unheard, the next try finds the row ended: LostLease, and nothing twice.
            if time.monotonic() > patience:
                raise
            log.warning("cell %s waits for the database: %s", order.lease.id, away.orig)
            time.sleep(pause)
            pause = min(2 * pause, 15.0)


def _lock(session: Session, order: Order) -> Evaluation:
    evaluation = journal.lock(session, order.evaluation_id)
    if evaluation is None:
        raise LostLease(order.lease.id)
    return evaluation


def _values(tools: Runtime, order: Order, result: CellResult) -> dict[str, Any]:
    sealed = None
    if result.recovered is not None:
        material = json.dumps(result.recovered, sort_keys=True).encode()
        sealed = tools.ring.seal(material, purpose="recovered-key", owner=order.account_id, id=order.lease.id)
    return {
        "result": {**jsonable(result.result), "versions": versions()},
        "recovered": sealed,
        "progress": 1.0,
        "phase": "",
        "error": None,
    }


def _rows(order: Order, result: CellResult, metrics: dict[str, list[list[float]]]) -> list[Any]:
    cell_id = order.lease.id
    rows: list[Any] = [
        Sample(
            cell_id=cell_id,
            index=sample.index,
            ssim=sample.ssim,
            plain=None if sample.plain is None else to_png(sample.plain),
            protected=to_png(sample.protected),
            reconstructed=to_png(sample.reconstructed),
        )
        for sample in result.samples
    ]
    if result.scores is not None:
        scores = {name: getattr(result.scores, name).tolist() for name in ("index", "ssim", "psnr", "rank")}
        rows.append(Scores(cell_id=cell_id, **scores))
    for name, points in {**metrics, **result.curves}.items():
        rows.append(Curve(cell_id=cell_id, name=name, points=jsonable(points)))
    return rows


def jsonable(value: Any) -> Any:
    """`value` with numbers that JSON lacks (infinite PSNR of an exact copy) as null."""
    if isinstance(value, Mapping):
        return {key: jsonable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@cache
def versions() -> dict[str, str]:
    return {"unveil": __version__, "torch": version("torch"), "python": platform.python_version()}
