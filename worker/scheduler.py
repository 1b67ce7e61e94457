"""Fair scheduling: a message asks for the next job, and the scheduler chooses it.

Running jobs in the order of their messages would make an account with one cell wait for another's hundred. Each message
stands for one queued job, so a message remains for every job whichever order the scheduler chooses.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from sqlalchemy import ColumnElement, Select, case, func, literal, select, union_all, update
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from unveil.app.db.tables import Account, Cell, Evaluation, Key
from unveil.models import catalog
from unveil.worker import cells, jobs, key_training
from unveil.worker.jobs import ClaimedJob
from unveil.worker.lease import LEASED, JobTable, claimable
from unveil.worker.runtime import Runtime

log = logging.getLogger(__name__)

_CLAIM_BY_TABLE: Mapping[JobTable, Callable[[Runtime, str], ClaimedJob | None]] = {
    Key: key_training.claim,
    Cell: cells.claim,
}


def run_next_job(runtime: Runtime) -> None:
    """Run one job, if one is claimable."""
    skipped: list[str] = []  # claimed by another worker meanwhile, or not claimable
    while True:
        with runtime.sessions() as session:
            next_row = next_job(session, skipped)
        if next_row is None:
            return
        table, id, account_id = next_row
        if jobs.run_job(runtime, id, partial(_claim, table), lambda: _mark_served(runtime, account_id)):  # noqa: B023 - called within the iteration
            return
        skipped.append(id)


def _claim(table: JobTable, runtime: Runtime, id: str) -> ClaimedJob | None:
    """Returns None for a corrupt row too, so that it does not starve the queue."""
    try:
        return _CLAIM_BY_TABLE[table](runtime, id)
    except OperationalError:  # a problem of the database, not of the row
        raise
    except Exception:
        log.exception("%s cannot be claimed", id)
        return None


def next_job(session: Session, skipped: list[str]) -> tuple[JobTable, str, str] | None:
    """Table, id and account of the next job.

    Order: the account with the fewest running jobs, then the one served least recently; within it the oldest request,
    its keys first because cells wait for them, its training attacks last. A job whose time slice ended counts as
    requested at that time. Skips schemes and attacks of other versions.
    """
    schemes, attacks = list(catalog.schemes()), [*catalog.registered_attacks(), catalog.UTILITY]
    scheme, attack = Cell.scheme["name"].astext, Cell.attack["name"].astext
    known = scheme.in_([*schemes, catalog.EXTERNAL]) & attack.in_(attacks)
    cost_rank = case((attack.in_([name for name in attacks if catalog.is_training_attack(name)]), 2), else_=1)
    queued = union_all(
        _select_keys(literal(0).label("length"), claimable(Key) & Key.scheme.in_(schemes) & Key.id.not_in(skipped)),
        _select_cells(cost_rank.label("length"), claimable(Cell) & known & Cell.id.not_in(skipped)),
    ).subquery()
    running = union_all(
        _select_keys(literal(0).label("length"), Key.status.in_(LEASED)),
        _select_cells(literal(0).label("length"), Cell.status.in_(LEASED)),
    ).subquery()
    running_per_account = (
        select(running.c.account_id, func.count().label("jobs")).group_by(running.c.account_id).subquery()
    )
    row = session.execute(
        select(queued.c.is_key, queued.c.id, Account.id)
        .join(Account, Account.id == queued.c.account_id)
        .outerjoin(running_per_account, running_per_account.c.account_id == Account.id)
        .order_by(
            running_per_account.c.jobs.nulls_first(),
            Account.last_job_started_at.nulls_first(),
            queued.c.ordered_at,
            queued.c.length,
            queued.c.position,
        )
        .limit(1)
    ).first()
    return None if row is None else (Key if row[0] else Cell, row[1], row[2])


def _select_keys(cost_rank: ColumnElement[int], condition: ColumnElement[bool]) -> Select[*tuple[object, ...]]:
    ordered_at = func.coalesce(Key.requeued_at, Evaluation.created_at, Key.created_at).label("ordered_at")
    columns = (
        literal(True).label("is_key"),
        Key.id,
        Key.account_id,
        ordered_at,
        cost_rank,
        literal(0).label("position"),
    )
    return select(*columns).outerjoin(Evaluation, Evaluation.id == Key.evaluation_id).where(condition)


def _select_cells(cost_rank: ColumnElement[int], condition: ColumnElement[bool]) -> Select[*tuple[object, ...]]:
    ordered_at = func.coalesce(Cell.requeued_at, Evaluation.created_at).label("ordered_at")
    columns = (literal(False).label("is_key"), Cell.id, Evaluation.account_id, ordered_at, cost_rank, Cell.position)
    return select(*columns).join(Evaluation, Evaluation.id == Cell.evaluation_id).where(condition)


def _mark_served(runtime: Runtime, account_id: str) -> None:
    """An error only affects fairness, so it does not fail the claimed job."""
    with suppress(DBAPIError), runtime.sessions.begin() as session:
        session.execute(
            update(Account).where(Account.id == account_id).values(last_job_started_at=func.clock_timestamp())
        )
