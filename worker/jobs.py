"""Run one job, a cell or the training of a key, from its claim to its end.

A `ClaimedJob` computes the outcome. This module keeps the lease, writes progress behind the fence, and writes the final
status and the outcome in one transaction.
"""

from __future__ import annotations

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from kombu.exceptions import OperationalError as BrokerUnavailable
from sqlalchemy import func
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from unveil.app import broker, storage
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Evaluation, Key
from unveil.app.jobs import event_log
from unveil.app.observability import failpoints
from unveil.app.observability.logging import bind_log_context
from unveil.models.catalog import ParameterError
from unveil.models.core.device import resolve_device
from unveil.models.core.errors import (
    OUT_OF_MEMORY_TEXTS,
    AttackFailed,
    Cancelled,
    DeadlineReached,
    DoesNotApply,
    OutOfMemory,
)
from unveil.models.core.profiles import Profile
from unveil.models.core.run_context import RunContext
from unveil.models.data.image_dataset import DatasetMissing, DatasetUnreadable
from unveil.worker import lease, shutdown, single_flight
from unveil.worker.checkpoints import EncryptedCheckpointStore, checkpoint_envelope_context
from unveil.worker.lease import (
    CancelRequested,
    Lease,
    LeaseKeeper,
    LeaseLost,
    LeaseReleased,
    OverBudget,
    retry_while_db_down,
)
from unveil.worker.runtime import Runtime
from unveil.worker.usage import UsageMeter

log = logging.getLogger(__name__)

REPORT_INTERVAL_S = 1.0  # minimum time between two progress events
_MIN_PROGRESS = 0.01  # beyond the best earlier attempt; resets attempts_without_progress

_NOT_APPLICABLE_CODES = ("not_applicable", "missing_dependency")  # the attack has neither succeeded nor failed
_TORCH_PACKAGES = ("torch", "torchvision", "safetensors")


class JobFailed(Exception):
    """The job cannot run as requested; the message is shown to its owner."""

    code: ClassVar[str]


@dataclass(frozen=True)
class JobOutcome:
    """Columns of the job's row and further rows, written in the transaction that ends the job."""

    values: dict[str, Any]
    rows: Sequence[Any] = ()


@dataclass(frozen=True)
class ClaimedJob(ABC):
    """A claimed row with the data that its run needs."""

    attack_failed: ClassVar[str]  # error code of AttackFailed

    runtime: Runtime
    lease: Lease
    account_id: str
    evaluation_id: str | None
    profile: Profile
    best_progress: float  # of earlier attempts
    checkpoint_wrapped_key: bytes

    @abstractmethod
    def run(self, reporter: Reporter) -> JobOutcome:
        """Compute the outcome."""

    @abstractmethod
    def publish_status(self, session: Session, evaluation: Evaluation) -> None:
        """Append an event with the new status to the evaluation."""

    def cleanup(self) -> None:
        """Call after the end is committed: a crash in between leaves a folder, not a job without checkpoints."""
        with suppress(storage.StorageError):  # the sweeper deletes it later
            self.runtime.blobs.delete_folder(self.checkpoint_folder)

    @property
    def checkpoint_folder(self) -> str:
        """Training resumes from here after a crash; deleted when the job ends."""
        return f"checkpoints/{self.lease.id}"

    def run_context(self, reporter: Reporter, seed: int) -> RunContext:
        return RunContext(
            seed=seed,
            device=resolve_device(self.runtime.settings.device),
            checkpoints=EncryptedCheckpointStore(
                self.runtime.blobs,
                self.runtime.keyring,
                self.checkpoint_wrapped_key,
                self.account_id,
                self.lease.id,
                self.checkpoint_folder,
            ),
            report=reporter.report,
            metric=reporter.metric,
            memoize=partial(single_flight.compute_once, self, reporter),
            deadline=self.lease.claimed_at + self.runtime.settings.time_slice_s,
        )

    @property
    def log_fields(self) -> dict[str, str | None]:
        kind = self.lease.table.__tablename__.removesuffix("s")
        return {"account_id": self.account_id, "evaluation_id": self.evaluation_id, f"{kind}_id": self.lease.id}

    def write(self, update_row: Callable[[Session], None], publish: Callable[[Session, Evaluation], None]) -> None:
        """Update the row and publish it, in one transaction under the lock of the evaluation. Raises LeaseLost."""
        with self.runtime.sessions.begin() as session:
            evaluation = None
            if self.evaluation_id is not None:
                evaluation = event_log.lock_evaluation(session, self.evaluation_id)
                if evaluation is None:
                    raise LeaseLost(self.lease.id)
            update_row(session)
            session.flush()
            if evaluation is not None:
                publish(session, evaluation)


def get_or_create_checkpoint_key(runtime: Runtime, job: Cell | Key, account_id: str) -> bytes:
    """The wrapped data key of the checkpoints, created by the first attempt and stored with its claim."""
    if job.checkpoint_wrapped_key is None:
        job.checkpoint_wrapped_key = runtime.keyring.new_wrapped_key(**checkpoint_envelope_context(account_id, job.id))
    return job.checkpoint_wrapped_key


def run_job(
    runtime: Runtime,
    id: str,
    claim: Callable[[Runtime, str], ClaimedJob | None],
    on_claimed: Callable[[], None] = lambda: None,
) -> bool:
    """Claim and run job `id`. False if it cannot be claimed and the caller may try another; True at a shutdown.

    on_claimed: called before the job runs.
    """
    if shutdown.requested.is_set():
        return True
    with shutdown.in_flight():
        job = claim(runtime, id)
        if job is None:
            log.info("%s cannot be claimed", id)
            return False
        failpoints.failpoint("job-claimed")
        on_claimed()
        with bind_log_context(**job.log_fields):
            _run_attempt(job)
        failpoints.failpoint("job-over-before-acknowledgement")
        return True


def _run_attempt(job: ClaimedJob) -> None:
    settings = job.runtime.settings
    log.info("attempt %d starts", job.lease.attempt)
    try:
        with LeaseKeeper(
            job.runtime.sessions,
            job.lease,
            lease_s=settings.lease_ttl_s,
            heartbeat_s=settings.heartbeat_interval_s,
            release=lambda: release(job),
            end=lambda reason: _end_early(job, reason),
            budget_s=settings.job_budget_s(job.profile),
            charge=UsageMeter(job.account_id).charge,
        ) as lease_keeper:
            _run_to_end(job, lease_keeper)
    except LeaseLost:
        log.warning("lease lost; attempt %d stops", job.lease.attempt)
    except LeaseReleased:
        log.info("released: this worker shuts down")
    except (CancelRequested, OverBudget) as reason:
        log.info("%s ended early: %s", job.lease.id, type(reason).__name__)
        job.cleanup()


def _end_early(job: ClaimedJob, reason: Cancelled) -> None:
    """End the row of a cancelled job, or of one over its budget. Raises LeaseLost."""
    status, values = Status.CANCELLED, dict[str, Any]()
    if isinstance(reason, OverBudget):
        budget_s = job.runtime.settings.job_budget_s(job.profile)
        detail = (
            f"the job used {job.lease.seconds_used:.0f} s; a job of profile {job.profile} may use {budget_s:.0f} s. "
            "Request less work, such as fewer epochs, or have an administrator raise "
            f"UNVEIL_BUDGET_{job.profile.upper()}_S"
        )
        status, values = Status.FAILED, {"error": {"code": "over_budget", "detail": detail}}
    job.write(lambda session: lease.end(session, job.lease, status, **values), job.publish_status)


def release(job: ClaimedJob, **values: Any) -> None:
    """Requeue the job for another worker. Raises LeaseLost."""
    job.write(lambda session: lease.release(session, job.lease, **values), job.publish_status)
    failpoints.failpoint("released-before-dispatch")
    dispatch(job.runtime, 1)


def dispatch(runtime: Runtime, jobs: int) -> None:
    """Wake workers for queued jobs. If the broker is unavailable, the sweeper does it."""
    try:
        broker.enqueue_jobs(runtime.celery, jobs)
    except BrokerUnavailable as error:
        log.warning("%d jobs wait for the sweeper: %s", jobs, error)


# --- the run ---------------------------------------------------------------------------------------------------


def _run_to_end(job: ClaimedJob, lease_keeper: LeaseKeeper) -> None:
    """Raises LeaseLost, LeaseReleased, CancelRequested, DBAPIError; any other exception fails the job."""
    reporter = Reporter(job, lease_keeper)
    try:
        outcome = job.run(reporter)
    except DeadlineReached:
        log.info("the time slice of %s ended; it goes to the back of the queue", job.lease.id)
        release(job, requeued_at=func.clock_timestamp())
        return
    except Cancelled:
        raise
    except DBAPIError:
        raise  # the lease expires and another attempt follows
    except Exception as error:
        failure = describe_failure(error, job.attack_failed)
        if failure["code"] in ("internal", *storage.STORAGE_ERROR_BY_CODE):
            log.exception("%s failed", job.lease.id)
        is_not_applicable = failure["code"] in _NOT_APPLICABLE_CODES and job.lease.table is Cell
        status = Status.NOT_APPLICABLE if is_not_applicable else Status.FAILED
        _store_outcome(reporter, status, JobOutcome({"error": failure}))
    else:
        outcome = JobOutcome({"progress": 1.0, "phase": "", "error": None, **outcome.values}, outcome.rows)
        _store_outcome(reporter, Status.SUCCEEDED, outcome)
    job.cleanup()


def _store_outcome(reporter: Reporter, status: Status, outcome: JobOutcome) -> None:
    """End the job and write its outcome in one transaction, with retries so that it survives a database restart."""
    job = reporter.job

    def write_outcome(session: Session) -> None:
        lease.end(session, job.lease, status, **outcome.values)
        session.add_all(outcome.rows)
        session.flush()
        failpoints.failpoint("result-before-commit")

    def publish(session: Session, evaluation: Evaluation) -> None:
        reporter.flush_metrics(session, evaluation)  # event streams end with the evaluation
        job.publish_status(session, evaluation)

    # If a commit succeeded but its acknowledgement was lost, the retry fails the fence (LeaseLost) and writes nothing.
    retry_while_db_down(job.lease.id, lambda: job.write(write_outcome, publish))
    failpoints.failpoint("result-before-checkpoints-go")


def describe_failure(error: Exception, attack_failed: str) -> dict[str, str]:
    """The `error` of a failed job: {"code", "detail"}."""
    code = "internal"
    if isinstance(error, JobFailed):
        code = error.code
    elif isinstance(error, DatasetMissing):
        code = "dataset_missing"
    elif isinstance(error, DatasetUnreadable):
        code = "dataset_unreadable"
    elif isinstance(error, DoesNotApply):
        code = "not_applicable"
    elif isinstance(error, ModuleNotFoundError) and error.name in _TORCH_PACKAGES:
        return {"code": "missing_dependency", "detail": "install unveil[torch]"}
    elif isinstance(error, OutOfMemory | MemoryError) or _is_torch_out_of_memory(error):
        code = "out_of_memory"
    elif isinstance(error, AttackFailed):
        code = attack_failed
    elif isinstance(error, (ParameterError, ValueError)):
        code = "invalid_material"
    elif isinstance(error, storage.StorageError):  # of the blob store alone
        code = error.code
    if code == "internal":
        # the text of an unexpected exception may contain secrets
        return {"code": code, "detail": f"{type(error).__name__}; the worker's log has the details"}
    return {"code": code, "detail": str(error) or type(error).__name__}


def _is_torch_out_of_memory(error: Exception) -> bool:
    """Compares names, because most jobs do not import torch. On a CPU torch raises a plain RuntimeError."""
    return type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY_TEXTS)
    )


def _strip_counts(phase: str) -> str:
    """`epoch 3 of 10` and `epoch 4 of 10` are one stage."""
    return "".join(character for character in phase if not character.isdigit())


# --- progress -----------------------------------------------------------------------------------------------


@dataclass
class Reporter:
    """Writes progress and metrics of a running job, at most once per second, behind the fence."""

    job: ClaimedJob
    lease_keeper: LeaseKeeper
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    _fraction: float = 0.0
    _phase: str = ""
    _pending_points: dict[str, list[list[float]]] = field(default_factory=dict)
    _next_write_at: float = 0.0

    def report(self, fraction: float, phase: str) -> None:
        """Writes a new stage at once: otherwise the stage before it would be shown unfinished meanwhile."""
        is_new_stage = _strip_counts(phase) != _strip_counts(self._phase)
        self._fraction, self._phase = max(0.0, min(1.0, fraction)), phase
        self._flush(at_once=is_new_stage)

    def heartbeat(self, phase: str) -> None:
        """Report a phase without progress."""
        self.report(self._fraction, phase)

    def metric(self, name: str, step: int, value: float) -> None:
        if math.isfinite(value):
            for points in (self.curves, self._pending_points):
                points.setdefault(name, []).append([step, float(value)])
        self._flush()

    def _flush(self, *, at_once: bool = False) -> None:
        self.lease_keeper.raise_if_stopped()
        if not at_once and time.monotonic() < self._next_write_at:
            return
        try:
            self._write()
        except DBAPIError as error:  # the lease limits how long a job runs without the database
            log.warning("cannot write the progress of %s: %s", self.job.lease.id, error.orig)
        self._next_write_at = time.monotonic() + REPORT_INTERVAL_S

    def _write(self) -> None:
        job, table = self.job, self.job.lease.table
        values: dict[str, Any] = {
            # an attempt that starts over does not decrease the progress
            "progress": func.greatest(table.progress, self._fraction),
            "phase": self._phase,
        }
        if self._fraction >= job.best_progress + _MIN_PROGRESS:
            values["attempts_without_progress"] = 0
        job.write(lambda session: lease.write(session, job.lease, **values), self._publish_progress)
        failpoints.failpoint("progress-written")
        self._pending_points = {}

    def _publish_progress(self, session: Session, evaluation: Evaluation) -> None:
        row: Any = session.get_one(self.job.lease.table, self.job.lease.id, populate_existing=True)
        event_log.append_progress(session, evaluation, row)
        self.flush_metrics(session, evaluation)

    def flush_metrics(self, session: Session, evaluation: Evaluation) -> None:
        """Append the metrics that no committed event contains."""
        row: Any = session.get_one(self.job.lease.table, self.job.lease.id)
        for name, points in self._pending_points.items():
            event_log.append_events(
                session, evaluation, "metric", {**event_log.event_subject(row), "name": name, "points": points}
            )
