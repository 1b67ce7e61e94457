"""Artifacts that one job of an evaluation computes for all its jobs, such as the controls of an attack.

One job computes an artifact while the others wait. Its claim is valid as long as the lease of its own row, so a job
that crashed, failed or was cancelled frees the artifact.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from unveil.app.db.tables import Cell, EvaluationArtifact, Key
from unveil.app.observability import failpoints
from unveil.worker.lease import LEASED, retry_while_db_down

if TYPE_CHECKING:
    from unveil.worker.jobs import ClaimedJob, Reporter

_POLL_INTERVAL_S = 1.0  # of a job that waits for another


def compute_once(job: ClaimedJob, reporter: Reporter, name: str, compute: Callable[[], bytes]) -> bytes:
    """The value of `compute`, run by this job or another one of the evaluation. Raises as Reporter.report does."""
    if job.evaluation_id is None:
        return compute()
    while True:
        with job.runtime.sessions.begin() as session:
            is_owner = _claim_artifact(session, job, name)
            ciphertext = session.scalar(select(EvaluationArtifact.sealed).where(*_artifact_filter(job, name)))
        if ciphertext is not None:
            return job.runtime.keyring.open(ciphertext, **_envelope_context(job, name))
        if is_owner:
            break
        kind, _, _ = name.partition("/")
        reporter.heartbeat(f"waiting for the {kind} that another cell computes")
        time.sleep(_POLL_INTERVAL_S)
    value = compute()
    failpoints.failpoint("artifact-computed-before-stored")
    ciphertext = job.runtime.keyring.seal(value, **_envelope_context(job, name))
    retry_while_db_down(job.lease.id, lambda: _store_artifact(job, name, ciphertext))
    return value


def _claim_artifact(session: Session, job: ClaimedJob, name: str) -> bool:
    """True if this job computes the artifact: it is new, or the job that claimed it no longer runs."""
    owner = {"owner_job_id": job.lease.id, "attempt": job.lease.attempt}
    claimed_name = session.scalar(
        insert(EvaluationArtifact)
        .values(evaluation_id=job.evaluation_id, name=name, **owner)
        .on_conflict_do_update(
            index_elements=["evaluation_id", "name"],
            set_={getattr(EvaluationArtifact, attribute): value for attribute, value in owner.items()},
            where=EvaluationArtifact.sealed.is_(None) & or_(and_(*_owned_by(job)), ~_owner_is_running()),
        )
        .returning(EvaluationArtifact.name)
    )
    return claimed_name is not None


def _owner_is_running() -> ColumnElement[bool]:
    """The owner holds its lease, in the attempt that claimed the artifact."""
    return or_(
        *(
            exists().where(
                table.id == EvaluationArtifact.owner_job_id,
                table.attempt == EvaluationArtifact.attempt,
                table.status.in_(LEASED),
                table.lease_until > func.clock_timestamp(),
            )
            for table in (Cell, Key)
        )
    )


def _store_artifact(job: ClaimedJob, name: str, ciphertext: bytes) -> None:
    """Writes nothing if another job has taken over the artifact: both compute the same value."""
    with job.runtime.sessions.begin() as session:
        session.execute(
            update(EvaluationArtifact).where(*_artifact_filter(job, name), *_owned_by(job)).values(sealed=ciphertext)
        )


def _artifact_filter(job: ClaimedJob, name: str) -> tuple[ColumnElement[bool], ...]:
    return EvaluationArtifact.evaluation_id == job.evaluation_id, EvaluationArtifact.name == name


def _owned_by(job: ClaimedJob) -> tuple[ColumnElement[bool], ...]:
    return EvaluationArtifact.owner_job_id == job.lease.id, EvaluationArtifact.attempt == job.lease.attempt


def _envelope_context(job: ClaimedJob, name: str) -> dict[str, str]:
    return {"purpose": "shared", "owner": job.account_id, "id": f"{job.evaluation_id}/{name}"}
