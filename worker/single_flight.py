"""What one job of an evaluation computes for all of them, such as the controls of an attack.

Exactly one works on it while the others wait. It is theirs only as long as their own row's lease holds: a job that
died, failed or was cancelled frees it without a word.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from unveil.app.db.tables import Cell, Key, Shared
from unveil.app.observability import failpoints
from unveil.worker.lease import HELD, patiently

if TYPE_CHECKING:
    from unveil.worker.jobs import Job, Reporter

_LOOK_S = 1.0  # how often one who waits looks again


def once(job: Job, reporter: Reporter, name: str, make: Callable[[], bytes]) -> bytes:
    """What `make` makes, or has made for another job of the evaluation. Waits meanwhile; raises as a report does."""
    if job.evaluation_id is None:
        return make()
    while True:
        with job.tools.sessions.begin() as session:
            ours = _take(session, job, name)
            sealed = session.scalar(select(Shared.sealed).where(*_row(job, name)))
        if sealed is not None:
            return job.tools.ring.open(sealed, **_envelope(job, name))
        if ours:
            break
        kind, _, _ = name.partition("/")
        reporter.again(f"waiting for the {kind} that another cell makes")
        time.sleep(_LOOK_S)
    made = make()
    failpoints.point("shared-made-before-kept")
    sealed = job.tools.ring.seal(made, **_envelope(job, name))
    patiently(job.lease.id, lambda: _keep(job, name, sealed))
    return made


def _take(session: Session, job: Job, name: str) -> bool:
    """Whether it is ours to make: nobody's yet, or of one who makes it no more."""
    mine = {"holder": job.lease.id, "attempt": job.lease.attempt}
    taken = session.scalar(
        insert(Shared)
        .values(evaluation_id=job.evaluation_id, name=name, **mine)
        .on_conflict_do_update(
            index_elements=["evaluation_id", "name"],
            set_=mine,
            where=Shared.sealed.is_(None) & or_(and_(*_held_by(job)), ~_is_made()),
        )
        .returning(Shared.name)
    )
    return taken is not None


def _is_made() -> ColumnElement[bool]:
    """Its holder is at work, in the attempt that took it."""
    return or_(
        *(
            exists().where(
                table.id == Shared.holder,
                table.attempt == Shared.attempt,
                table.status.in_(HELD),
                table.lease_until > func.clock_timestamp(),
            )
            for table in (Cell, Key)
        )
    )


def _keep(job: Job, name: str, sealed: bytes) -> None:
    """If another took it over meanwhile, ours is dropped: what two make is the same."""
    with job.tools.sessions.begin() as session:
        session.execute(update(Shared).where(*_row(job, name), *_held_by(job)).values(sealed=sealed))


def _row(job: Job, name: str) -> tuple[ColumnElement[bool], ...]:
    return Shared.evaluation_id == job.evaluation_id, Shared.name == name


def _held_by(job: Job) -> tuple[ColumnElement[bool], ...]:
    return Shared.holder == job.lease.id, Shared.attempt == job.lease.attempt


def _envelope(job: Job, name: str) -> dict[str, str]:
    return {"purpose": "shared", "owner": job.account_id, "id": f"{job.evaluation_id}/{name}"}
