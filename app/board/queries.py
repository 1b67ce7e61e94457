"""All SQL of the board, always by owner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import aggregate_order_by, distinct_on
from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.board.entries import VERDICT
from unveil.app.db.tables import BoardEntry, Evaluation
from unveil.app.evaluations.verdicts import COMPUTED_BY

_CURRENT = (BoardEntry.computed_by == COMPUTED_BY,)
_IDENTITY = (BoardEntry.evaluation_id, BoardEntry.position, BoardEntry.aspect)


def _is_missing(account_id: str) -> tuple[Any, ...]:
    """WHERE clauses: finished, without board entries of the current rules."""
    return (
        Evaluation.account_id == account_id,
        Evaluation.finished_at.is_not(None),
        Evaluation.board_computed_by.is_distinct_from(COMPUTED_BY),
    )


async def list_missing(session: AsyncSession, account_id: str, limit: int) -> Sequence[str]:
    """Ids of evaluations to add, the newest first."""
    missing = select(Evaluation.id).where(*_is_missing(account_id)).order_by(Evaluation.id.desc())
    return (await session.scalars(missing.limit(limit))).all()


async def count_missing(session: AsyncSession, account_id: str) -> int:
    return await session.scalar(select(func.count()).select_from(Evaluation).where(*_is_missing(account_id))) or 0


async def lock_missing(session: AsyncSession, account_id: str, id: str) -> Evaluation | None:
    """None if another request adds the evaluation, or has added it."""
    return await session.scalar(
        select(Evaluation)
        .where(Evaluation.id == id, *_is_missing(account_id))
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )


async def delete_entries(session: AsyncSession, evaluation_id: str) -> None:
    await session.execute(delete(BoardEntry).where(BoardEntry.evaluation_id == evaluation_id))


async def list_datasets(session: AsyncSession, account_id: str) -> Sequence[Any]:
    """(dataset_sha256, its name in the newest evaluation, evaluations), the most evaluations first."""
    evaluations = func.count(BoardEntry.evaluation_id.distinct()).label("evaluations")
    names: Any = func.array_agg(aggregate_order_by(BoardEntry.dataset, BoardEntry.evaluation_id.desc()))
    return (
        await session.execute(
            select(BoardEntry.dataset_sha256, names[1].label("dataset"), evaluations)
            .where(BoardEntry.account_id == account_id, *_CURRENT, BoardEntry.aspect == VERDICT)
            .group_by(BoardEntry.dataset_sha256)
            .order_by(evaluations.desc(), func.max(BoardEntry.evaluation_id).desc())
        )
    ).all()


def _on_board(account_id: str, dataset_sha256: str, profile: str | None) -> tuple[Any, ...]:
    """WHERE clauses."""
    own = (BoardEntry.account_id == account_id, BoardEntry.dataset_sha256 == dataset_sha256, *_CURRENT)
    return own if profile is None else (*own, BoardEntry.profile == profile)


async def list_lowest_ranks(
    session: AsyncSession, account_id: str, dataset_sha256: str, profile: str | None
) -> Sequence[Any]:
    """(scheme_key, aspect, value) with the lowest rank of each scheme and aspect; of equal ranks, the newest."""
    lowest = (
        select(*_IDENTITY)
        .ext(distinct_on(BoardEntry.scheme_key, BoardEntry.aspect))
        .where(*_on_board(account_id, dataset_sha256, profile))
        .order_by(BoardEntry.scheme_key, BoardEntry.aspect, BoardEntry.rank, BoardEntry.evaluation_id.desc())
        .subquery()
    )
    chosen = tuple_(*_IDENTITY) == tuple_(lowest.c.evaluation_id, lowest.c.position, lowest.c.aspect)
    columns = (BoardEntry.scheme_key, BoardEntry.aspect, BoardEntry.value)
    return (await session.execute(select(*columns).join(lowest, chosen))).all()


async def list_evaluations(
    session: AsyncSession, account_id: str, dataset_sha256: str, profile: str | None
) -> Sequence[Any]:
    """(scheme_key, ids of its evaluations, when the last finished)."""
    ids = func.array_agg(BoardEntry.evaluation_id.distinct())
    return (
        await session.execute(
            select(BoardEntry.scheme_key, ids, func.max(BoardEntry.measured_at))
            .where(*_on_board(account_id, dataset_sha256, profile), BoardEntry.aspect == VERDICT)
            .group_by(BoardEntry.scheme_key)
        )
    ).all()


async def list_profiles(session: AsyncSession, account_id: str, dataset_sha256: str) -> Sequence[str]:
    own = (*_on_board(account_id, dataset_sha256, None), BoardEntry.aspect == VERDICT)
    return (await session.scalars(select(BoardEntry.profile).where(*own).distinct())).all()
