"""What every order of work shares: how much of it an account may have waiting, and the doorbell."""

from __future__ import annotations

import logging

import redis.exceptions
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.db.job_states import ACTIVE
from unveil.app.db.tables import Account, Cell, Evaluation, Key
from unveil.app.dependencies import AppState
from unveil.app.errors.problem import Invalid, TooMany
from unveil.app.security.principal import Principal

log = logging.getLogger(__name__)


class QueueFull(TooMany):
    code, title = "queue_full", "The account has too much work waiting"


async def enforce_queue_quota(
    session: AsyncSession, app_state: AppState, principal: Principal, new_jobs: int, pointer: str
) -> None:
    """Whether so many cells and trainings more may be ordered; orders of one account count one after another.

    Raises QueueFull, Invalid.
    """
    limit = app_state.settings.max_active_jobs
    if new_jobs > limit:
        message = f"the order makes {new_jobs} cells and trainings; an account may have {limit} waiting"
        raise Invalid(message, [(pointer, "order fewer at once")])
    select_account = select(Account.id).where(Account.id == principal.account_id)
    await session.execute(
        select_account.with_for_update(key_share=True)
    )  # keeps no row that names the account from being written
    cells = select(func.count()).select_from(Cell).join(Evaluation, Evaluation.id == Cell.evaluation_id)
    cells = cells.where(
        Evaluation.account_id == principal.account_id, Evaluation.finished_at.is_(None), Cell.status.in_(ACTIVE)
    )
    keys = select(func.count()).select_from(Key).where(Key.account_id == principal.account_id, Key.status.in_(ACTIVE))
    active_jobs = (await session.scalar(cells) or 0) + (await session.scalar(keys) or 0)
    if active_jobs + new_jobs > limit:
        raise QueueFull(
            f"{active_jobs} cells and trainings wait or run, {new_jobs} more would pass the limit of {limit}; "
            "wait or cancel some",
            headers={"Retry-After": "30"},
        )


async def dispatch(app_state: AppState, task: str, *ids: str) -> None:
    """Tell the workers, after the commit. A broker that is away loses nothing: the sweeper rings again."""
    try:
        async with app_state.redis.pipeline() as pipe:
            for id in ids:
                pipe.lpush(*app_state.celery.encode(task, id))
            await pipe.execute()
    except (redis.exceptions.RedisError, OSError) as error:
        log.warning("%s wait for the sweeper: %s", ", ".join(ids), error)
