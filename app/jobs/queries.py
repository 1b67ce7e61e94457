"""All SQL of the administration of jobs, over all accounts. Never commits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, Select, Subquery, literal, null, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.db.job_states import ACTIVE
from unveil.app.db.tables import Account, Cell, Evaluation, Key
from unveil.app.http.pagination import PageRequest, apply_cursor


def _jobs() -> Subquery:
    """Cells and trainings of keys in one shape."""
    cells = (
        select(*_columns(Cell), literal("cell").label("kind"), Evaluation.account_id)
        .add_columns(Cell.scheme["name"].astext.label("scheme"), Cell.attack["name"].astext.label("attack"))
        .join(Evaluation, Evaluation.id == Cell.evaluation_id)
    )
    keys = (
        select(*_columns(Key), literal("key").label("kind"), Key.account_id)
        .add_columns(Key.scheme.label("scheme"), null().label("attack"))
        .where(Key.training_request.is_not(None))
    )
    return union_all(cells, keys).subquery()


def _columns(table: type[Cell] | type[Key]) -> list[Any]:
    return [
        table.id, table.evaluation_id, table.status, table.progress, table.phase, table.attempt,
        table.lease_owner.label("worker"), table.started_at, table.seconds_used,
        (table.estimated_core_seconds / 3600).label("estimated_core_hours"),
    ]  # fmt: skip


def _select_jobs(jobs: Subquery) -> Select[Any]:
    return select(jobs, Account.name.label("account")).join(Account, Account.id == jobs.c.account_id)


async def list_active(session: AsyncSession, paging: PageRequest) -> Sequence[Row[Any]]:
    jobs = _jobs()
    statement = apply_cursor(_select_jobs(jobs).where(jobs.c.status.in_(ACTIVE)), jobs.c.id, paging)
    rows: Sequence[Row[Any]] = (await session.execute(statement)).all()
    return rows


async def get(session: AsyncSession, id: str) -> Row[Any] | None:
    jobs = _jobs()
    row: Row[Any] | None = (await session.execute(_select_jobs(jobs).where(jobs.c.id == id))).first()
    return row
