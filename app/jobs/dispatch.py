"""Queue quota of an account, and the message that wakes a worker."""

from __future__ import annotations

import asyncio
import logging

from kombu.exceptions import OperationalError
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app import broker
from unveil.app.db.job_states import ACTIVE
from unveil.app.db.tables import Account, Cell, Evaluation, Key
from unveil.app.dependencies import AppState
from unveil.app.errors.problem import Invalid, QueueFull
from unveil.app.security.principal import Principal

log = logging.getLogger(__name__)


async def enforce_queue_quota(
    session: AsyncSession, app_state: AppState, principal: Principal, new_jobs: int, pointer: str
) -> None:
    """Raise QueueFull or Invalid if the account may not queue `new_jobs` more cells and trainings.

    Locks the account's row, so that concurrent requests of one account count each other's jobs.
    """
    limit = app_state.settings.max_active_jobs
    if new_jobs > limit:
        message = f"the request creates {new_jobs} cells and trainings; an account may have {limit} active"
        raise Invalid(message, [(pointer, "request fewer at once")])
    select_account = select(Account.id).where(Account.id == principal.account_id)
    # key_share: does not block inserts of rows that reference the account.
    await session.execute(select_account.with_for_update(key_share=True))
    cells = select(func.count()).select_from(Cell).join(Evaluation, Evaluation.id == Cell.evaluation_id)
    cells = cells.where(
        Evaluation.account_id == principal.account_id, Evaluation.finished_at.is_(None), Cell.status.in_(ACTIVE)
    )
    keys = select(func.count()).select_from(Key).where(Key.account_id == principal.account_id, Key.status.in_(ACTIVE))
    active_jobs = (await session.scalar(cells) or 0) + (await session.scalar(keys) or 0)
    if active_jobs + new_jobs > limit:
        raise QueueFull(
            f"{active_jobs} cells and trainings are active and {new_jobs} more exceed the limit of {limit}; wait for "
            "some or cancel them",
            headers={"Retry-After": "30"},
        )


async def dispatch(app_state: AppState, jobs: int) -> None:
    """Wake workers for newly queued jobs; call after the commit. If the broker is unavailable, the sweeper does it."""
    try:
        await asyncio.to_thread(broker.enqueue_jobs, app_state.celery, jobs)
    except OperationalError as error:
        log.warning("%d jobs wait for the sweeper: %s", jobs, error)
