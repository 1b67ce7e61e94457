"""Quotas of an account, and the message that wakes a worker."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from kombu.exceptions import OperationalError
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app import broker
from unveil.app.db.job_states import ACTIVE
from unveil.app.db.tables import Account, AccountUsage, Cell, Evaluation, Key
from unveil.app.dependencies import AppState
from unveil.app.errors.problem import CostQuotaExceeded, Invalid, QueueFull, Unauthenticated
from unveil.app.security.principal import Principal
from unveil.app.settings import Settings

log = logging.getLogger(__name__)

USAGE_DAYS = 30  # the quota of core hours counts the usage of so many days


@dataclass(frozen=True)
class CostQuota:
    """Core hours of an account: the quota, what its jobs used in USAGE_DAYS, and what the active ones still need."""

    limit: float
    used: float
    reserved: float

    @property
    def left(self) -> float:
        return max(0.0, self.limit - self.used - self.reserved)


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
    revoked_at = select(Account.revoked_at).where(Account.id == principal.account_id)
    # key_share: does not block inserts of rows that reference the account.
    if await session.scalar(revoked_at.with_for_update(key_share=True)) is not None:
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

    quota = await load_cost_quota(session, app_state.settings, principal.account_id)
    if quota.used + quota.reserved + core_seconds / 3600 > quota.limit:
        message = (
            f"the request is estimated at {core_seconds / 3600:.3g} core hours and the account has {quota.left:.3g} of "
            f"{quota.limit:g} left: {quota.used:.3g} used in {USAGE_DAYS} days, {quota.reserved:.3g} reserved by "
            "active jobs. Request less, such as fewer epochs, or ask an administrator for more: unveil accounts quota"
        )
        raise CostQuotaExceeded(message, [(pointer, f"estimated at {core_seconds / 3600:.3g} core hours")])


async def load_cost_quota(session: AsyncSession, settings: Settings, account_id: str) -> CostQuota:
    limit = await session.scalar(select(Account.max_cost_core_hours).where(Account.id == account_id))
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
    return CostQuota(
        limit=settings.max_cost_core_hours if limit is None else limit,
        used=seconds[0] / 3600,
        reserved=(seconds[1] + seconds[2]) / 3600,
    )


async def dispatch(app_state: AppState, jobs: int) -> None:
    """Wake workers for newly queued jobs; call after the commit. If the broker is unavailable, the sweeper does it."""
    try:
        await asyncio.to_thread(broker.enqueue_jobs, app_state.celery, jobs)
    except OperationalError as error:
        log.warning("%d jobs wait for the sweeper: %s", jobs, error)
