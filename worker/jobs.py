"""One job from its claim to its end: what cells and keys in training have in common.

A `Job` says what its work is and what came of it. The rest is here: the lease is kept, progress is written behind the
fence, and the end in one transaction with all that came of it.
"""

from __future__ import annotations

import ctypes
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, ClassVar

from kombu.exceptions import OperationalError as BrokerAway
from sqlalchemy import func, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from unveil.app import broker, storage
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Evaluation, Key
from unveil.app.jobs import event_log
from unveil.app.observability import failpoints
from unveil.app.observability.logging import about
from unveil.models.catalog import ParameterError
from unveil.models.core.errors import AttackFailed, Cancelled
from unveil.models.core.run_context import Context
from unveil.models.data.datasets import DatasetMissing
from unveil.worker import lease, shutdown, single_flight
from unveil.worker.checkpoints import SealedCheckpoints, sealed_for
from unveil.worker.lease import CancelRequested, HandedBack, JobTable, Lease, LostLease, Watch, patiently
from unveil.worker.runtime import Runtime

log = logging.getLogger(__name__)

TASKS: Mapping[JobTable, str] = {Key: broker.TRAIN_KEY, Cell: broker.RUN_CELL}

REPORT_S = 1.0  # at most one progress event in this time
_PROGRESS = 0.01  # so much further than any attempt before is progress, and clears the count of stalls


class JobFailed(Exception):
    """The job cannot be done as ordered; the message is for its owner."""

    code: ClassVar[str]


@dataclass(frozen=True)
class Done:
    """What came of a job: columns of its row and further rows, written together with its end."""

    values: dict[str, Any]
    rows: Sequence[Any] = ()


@dataclass(frozen=True)
class Job(ABC):
    """A claimed row, and all that its work needs of it."""

    attack_failed: ClassVar[str]  # the code of a failure that the science itself explains

    tools: Runtime
    lease: Lease
    account_id: str
    evaluation_id: str | None
    furthest: float  # progress of the attempts before
    checkpoint_lock: bytes

    @abstractmethod
    def work(self, reporter: Reporter) -> Done:
        """The science."""

    @abstractmethod
    def changed(self, session: Session, evaluation: Evaluation) -> None:
        """Tell the evaluation of the row's new status."""

    def ended(self) -> None:
        """After the end is committed. A worker killed before leaves a folder, never a job without its checkpoints."""
        with suppress(storage.StorageFailed):  # the sweeper will
            self.tools.blobs.delete_folder(self.checkpoints)

    @property
    def checkpoints(self) -> str:
        """Where its training goes on after a crash: kept until the job has ended."""
        return f"checkpoints/{self.lease.id}"

    def context(self, reporter: Reporter, seed: int) -> Context:
        """How models are run on its behalf."""
        return Context(
            seed=seed,
            device=device(self.tools.settings.device),
            checkpoints=SealedCheckpoints(
                self.tools.blobs,
                self.tools.ring,
                self.checkpoint_lock,
                self.account_id,
                self.lease.id,
                self.checkpoints,
            ),
            report=reporter.report,
            metric=reporter.metric,
            shared=partial(single_flight.once, self, reporter),
        )

    @property
    def ids(self) -> dict[str, str | None]:
        """What the log says of it."""
        kind = self.lease.table.__tablename__.removesuffix("s")
        return {"account_id": self.account_id, "evaluation_id": self.evaluation_id, f"{kind}_id": self.lease.id}

    def write(self, change: Callable[[Session], None], tell: Callable[[Session, Evaluation], None]) -> None:
        """Change the row and tell its evaluation, in one transaction under the evaluation's lock. Raises LostLease."""
        with self.tools.sessions.begin() as session:
            evaluation = None
            if self.evaluation_id is not None:
                evaluation = event_log.lock(session, self.evaluation_id)
                if evaluation is None:
                    raise LostLease(self.lease.id)
            change(session)
            session.flush()
            if evaluation is not None:
                tell(session, evaluation)


def checkpoint_lock(tools: Runtime, job: Cell | Key, account_id: str) -> bytes:
    """The lock of a job's checkpoints, made by its first attempt and written with its claim."""
    if job.checkpoint_lock is None:
        job.checkpoint_lock = tools.ring.new_lock(**sealed_for(account_id, job.id))
    return job.checkpoint_lock


def handle(
    tools: Runtime, id: str, claim: Callable[[Runtime, str], Job | None], claimed: Callable[[], None] = lambda: None
) -> bool:
    """Do job `id` if it waits to be done; whether that, or our shutdown, leaves no more to do for this message.

    claimed: called before the work begins.
    """
    if shutdown.requested.is_set():
        return True
    with shutdown.working():
        job = claim(tools, id)
        if job is None:
            log.info("%s is not to be taken", id)
            return False
        failpoints.point("job-claimed")
        claimed()
        with about(**job.ids):
            _attempt(job)
        failpoints.point("job-over-before-acknowledgement")
        return True


def _attempt(job: Job) -> None:
    settings = job.tools.settings
    log.info("attempt %d begins", job.lease.attempt)
    try:
        with Watch(
            job.tools.sessions,
            job.lease,
            lease_s=settings.lease_s,
            heartbeat_s=settings.heartbeat_s,
            hand_back=lambda: hand_back(job),
            cancel=lambda: job.write(lambda session: lease.end(session, job.lease, Status.CANCELLED), job.changed),
        ) as watch:
            _work(job, watch)
    except LostLease:
        log.warning("no longer ours; attempt %d stops", job.lease.attempt)
    except HandedBack:
        log.info("handed back: this worker shuts down")
    except CancelRequested:
        log.info("cancelled")
        job.ended()


def hand_back(job: Job) -> None:
    """Queue it for another worker. Raises LostLease."""
    job.write(lambda session: lease.hand_back(session, job.lease), job.changed)
    failpoints.point("handed-back-before-ring")
    with suppress(BrokerAway):  # the sweeper will ring
        ring(job.tools, job.lease.table, [job.lease.id])


def ring(tools: Runtime, table: JobTable, ids: Sequence[str]) -> None:
    """Raises BrokerAway."""
    with tools.sessions.begin() as session:
        session.execute(update(table).where(table.id.in_(ids)).values(sent_at=func.clock_timestamp()))
    failpoints.point("marked-sent-before-ring")
    broker.ring(tools.celery, TASKS[table], *ids)


# --- the work ---------------------------------------------------------------------------------------------------


def _work(job: Job, watch: Watch) -> None:
    """Raises LostLease, HandedBack, CancelRequested; everything else ends the job."""
    reporter = Reporter(job, watch)
    try:
        done = job.work(reporter)
    except Cancelled:
        raise
    except DBAPIError:
        raise  # not the job's fault: its lease runs out and it is tried again
    except Exception as error:
        failure = failure_of(error, job.attack_failed)
        if failure["code"] in ("internal", *storage.FAILURES):
            log.exception("%s failed", job.lease.id)
        _store(reporter, Status.FAILED, Done({"error": failure}))
    else:
        done = Done({"progress": 1.0, "phase": "", "error": None, **done.values}, done.rows)
        _store(reporter, Status.SUCCEEDED, done)
    job.ended()


def _store(reporter: Reporter, status: Status, done: Done) -> None:
    """End it, in one transaction with all that came of it; hours of work outlast a restart of the database."""
    job = reporter.job

    def write(session: Session) -> None:
        lease.end(session, job.lease, status, **done.values)
        session.add_all(done.rows)
        session.flush()
        failpoints.point("result-before-commit")

    def tell(session: Session, evaluation: Evaluation) -> None:
        reporter.tell_points(session, evaluation)  # those of its last second; nobody follows an ended evaluation
        job.changed(session, evaluation)

    # If a commit went through unheard, the next try finds the row ended: LostLease, and nothing twice.
    patiently(job.lease.id, lambda: job.write(write, tell))
    failpoints.point("result-before-checkpoints-go")


@cache
def device(wanted: str) -> str:
    """`auto` is the GPU where there is one."""
    if wanted != "auto":
        return wanted
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:  # no driver: spares jobs that need no torch its import of seconds
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def failure_of(error: Exception, attack_failed: str) -> dict[str, str]:
    """What a caller reads of a failed job: a code to act on, and a sentence."""
    code = "internal"
    if isinstance(error, JobFailed):
        code = error.code
    elif isinstance(error, DatasetMissing):
        code = "dataset_missing"
    elif isinstance(error, AttackFailed):
        code = attack_failed
    elif isinstance(error, MemoryError) or _is_torchs_memory_error(error):
        code = "out_of_memory"
    elif isinstance(error, (ParameterError, ValueError)):
        code = "invalid_material"
    elif (failed := storage.failure(error)) is not None:
        return {"code": failed.code, "detail": str(failed)}
    if code == "internal":
        # its text was not written for callers, and may hold what they must not see
        return {"code": code, "detail": f"{type(error).__name__}; the worker's log has the details"}
    return {"code": code, "detail": str(error) or type(error).__name__}


def _is_torchs_memory_error(error: Exception) -> bool:
    """By name and text: most jobs need no torch. On a CPU it raises a plain RuntimeError."""
    return type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def jsonable(value: Any) -> Any:
    """`value` with numbers that JSON lacks (infinite PSNR of an exact copy) as null."""
    if isinstance(value, Mapping):
        return {key: jsonable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# --- what is told -----------------------------------------------------------------------------------------------


@dataclass
class Reporter:
    """Progress and metrics of a running job, at most one write a second, each behind the fence."""

    job: Job
    watch: Watch
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    _fraction: float = 0.0
    _phase: str = ""
    _unsent: dict[str, list[list[float]]] = field(default_factory=dict)
    _next: float = 0.0

    def report(self, fraction: float, phase: str) -> None:
        self._fraction, self._phase = max(0.0, min(1.0, fraction)), phase
        self._flush()

    def again(self, phase: str) -> None:
        """Still there, no further."""
        self.report(self._fraction, phase)

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
            log.warning("progress of %s is not written: %s", self.job.lease.id, away.orig)
        self._next = time.monotonic() + REPORT_S

    def _write(self) -> None:
        job, table = self.job, self.job.lease.table
        values: dict[str, Any] = {
            # an attempt that starts over does not move the bar back
            "progress": func.greatest(table.progress, self._fraction),
            "phase": self._phase,
        }
        if self._fraction >= job.furthest + _PROGRESS:
            values["stalls"] = 0
        job.write(lambda session: lease.write(session, job.lease, **values), self._tell)
        failpoints.point("progress-written")
        self._unsent = {}

    def _tell(self, session: Session, evaluation: Evaluation) -> None:
        row: Any = session.get_one(self.job.lease.table, self.job.lease.id, populate_existing=True)
        event_log.progressed(session, evaluation, row)
        self.tell_points(session, evaluation)

    def tell_points(self, session: Session, evaluation: Evaluation) -> None:
        """All that no commit has told yet."""
        row: Any = session.get_one(self.job.lease.table, self.job.lease.id)
        for name, points in self._unsent.items():
            event_log.record(session, evaluation, "metric", {**event_log.named(row), "name": name, "points": points})
