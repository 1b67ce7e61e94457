"""Quotas of an account, and the message that wakes a worker."""

from __future__ import annotations

import asyncio
import logging

from kombu.exceptions import OperationalError
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app import broker
from unveil.app.db.job_states import ACTIVE
from unveil.app.db.tables import Account, AccountUsage, Cell, Evaluation, Key
from unveil.app.dependencies import AppState
from unveil.app.errors.problem import CostQuotaExceeded, Invalid, QueueFull, Unauthenticated
from unveil.app.security.principal import Principal

log = logging.getLogger(__name__)

USAGE_DAYS = 30  # the quota of core hours counts the usage of so many days


async def enforce_quotas(
    session: AsyncSession,
    app_state: AppState,
    principal: Principal,
    new_jobs: int,
    core_seconds: float,
    pointer: str,
) -> None:
    """Raise QueueFull, CostQuotaExceeded or Invalid if the account may not queue `new_jobs` more cells and trainings,
    which are estimated to need `core_seconds` together.

    Locks the account's row, so that concurrent requests of one account count each other's jobs. Raises Unauthenticated
    if the account was revoked meanwhile: its jobs have been cancelled, and no more may follow.
    """
    limit = app_state.settings.max_active_jobs
    if new_jobs > limit:
        message = f"the request creates {new_jobs} cells and trainings; an account may have {limit} active"
        raise Invalid(message, [(pointer, "request fewer at once")])
    select_account = select(Account.revoked_at, Account.max_cost_core_hours)
    # key_share: does not block inserts of rows that reference the account.
    account = (
        await session.execute(select_account.where(Account.id == principal.account_id).with_for_update(key_share=True))
    ).one()
    if account.revoked_at is not None:
        raise Unauthenticated(f"account {principal.name} was revoked")
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

    max_hours = account.max_cost_core_hours
    if max_hours is None:
        max_hours = app_state.settings.max_cost_core_hours
    used_hours, reserved_hours = await _cost_core_hours(session, principal.account_id)
    if used_hours + reserved_hours + core_seconds / 3600 > max_hours:
        left = max(0.0, max_hours - used_hours - reserved_hours)
        message = (
            f"the request is estimated at {core_seconds / 3600:.3g} core hours and the account has {left:.3g} of "
            f"{max_hours:g} left: {used_hours:.3g} used in {USAGE_DAYS} days, {reserved_hours:.3g} reserved by active "
            "jobs. Request less, such as fewer epochs, or ask an administrator for more: unveil accounts quota"
        )
        raise CostQuotaExceeded(message, [(pointer, f"estimated at {core_seconds / 3600:.3g} core hours")])


async def _cost_core_hours(session: AsyncSession, account_id: str) -> tuple[float, float]:
    """Core hours that the account used in the last USAGE_DAYS, and that its active jobs are estimated to need still."""
    first_day = func.current_date() - USAGE_DAYS
    used = select(func.sum(AccountUsage.core_seconds)).where(
        AccountUsage.account_id == account_id, AccountUsage.day > first_day
    )
    cells = (
        select(func.sum(Cell.estimated_core_seconds * (1 - Cell.progress)))
        .join(Evaluation, Evaluation.id == Cell.evaluation_id)
        .where(Evaluation.account_id == account_id, Evaluation.finished_at.is_(None), Cell.status.in_(ACTIVE))
    )
    keys = select(func.sum(Key.estimated_core_seconds * (1 - Key.progress))).where(
        Key.account_id == account_id, Key.status.in_(ACTIVE)
    )
    seconds = [await session.scalar(statement) or 0.0 for statement in (used, cells, keys)]
    return seconds[0] / 3600, (seconds[1] + seconds[2]) / 3600


async def dispatch(app_state: AppState, jobs: int) -> None:
    """Wake workers for newly queued jobs; call after the commit. If the broker is unavailable, the sweeper does it."""
    try:
        await asyncio.to_thread(broker.enqueue_jobs, app_state.celery, jobs)
    except OperationalError as error:
        log.warning("%d jobs wait for the sweeper: %s", jobs, error)
