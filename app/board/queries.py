"""All SQL of the board, always by owner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, String, delete, func, literal, literal_column, or_, select, true
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.board.entries import ASPECTS, VERDICT
from unveil.app.db.tables import BoardEntry, Evaluation
from unveil.app.evaluations.verdicts import COMPUTED_BY

_VERDICT: ColumnElement[str] = literal_column(f"'{VERDICT}'")  # a constant, as in the condition of its index


def _is_missing(account_id: str) -> tuple[Any, ...]:
    """WHERE clauses: finished, without board entries of the current rules."""
    written_by = Evaluation.board_computed_by
    return (
        Evaluation.account_id == account_id,
        Evaluation.finished_at.is_not(None),
        or_(written_by.is_(None), written_by < COMPUTED_BY, written_by > COMPUTED_BY),  # by index, which <> is not
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


def _current(account_id: str, aspect: Any) -> tuple[Any, ...]:
    """WHERE clauses."""
    return (
        BoardEntry.account_id == account_id,
        BoardEntry.computed_by == COMPUTED_BY,
        BoardEntry.aspect == aspect,
    )


async def list_datasets(session: AsyncSession, account_id: str) -> Sequence[Any]:
    """(dataset_sha256, its name in the newest evaluation, evaluations, profiles), the most evaluations first."""
    evaluations = func.count(BoardEntry.evaluation_id.distinct()).label("evaluations")
    newest = func.max(BoardEntry.evaluation_id)
    names: Any = func.array_agg(aggregate_order_by(BoardEntry.dataset, BoardEntry.evaluation_id.desc()))
    profiles = func.array_agg(BoardEntry.profile.distinct()).label("profiles")
    return (
        await session.execute(
            select(BoardEntry.dataset_sha256, names[1].label("dataset"), evaluations, profiles)
            .where(*_current(account_id, _VERDICT))
            .group_by(BoardEntry.dataset_sha256)
            .order_by(evaluations.desc(), newest.desc())
        )
    ).all()


async def list_schemes(
    session: AsyncSession, account_id: str, dataset_sha256: str, profile: str | None
) -> Sequence[Any]:
    """(scheme_key, ids of its evaluations, when the last finished)."""
    ids = func.array_agg(BoardEntry.evaluation_id.distinct())
    return (
        await session.execute(
            select(BoardEntry.scheme_key, ids, func.max(BoardEntry.measured_at))
            .where(
                *_current(account_id, _VERDICT),
                BoardEntry.dataset_sha256 == dataset_sha256,
                *([] if profile is None else [BoardEntry.profile == profile]),
            )
            .group_by(BoardEntry.scheme_key)
        )
    ).all()


async def list_lowest_entries(
    session: AsyncSession, account_id: str, dataset_sha256: str, profile: str | None, scheme_keys: Sequence[str]
) -> Sequence[Any]:
    """(scheme_key, aspect, value) with the lowest sort key of each scheme and aspect; of equal keys, the newest."""
    pairs = (
        select(
            func.unnest(literal([key for key in scheme_keys for _ in ASPECTS], ARRAY(String))).label("scheme_key"),
            func.unnest(literal([*ASPECTS] * len(scheme_keys), ARRAY(String))).label("aspect"),
        )
    ).subquery()
    lowest = (
        select(BoardEntry.value)
        .where(
            *_current(account_id, pairs.c.aspect),
            BoardEntry.dataset_sha256 == dataset_sha256,
            BoardEntry.scheme_key == pairs.c.scheme_key,
            *([] if profile is None else [BoardEntry.profile == profile]),
        )
        .order_by(BoardEntry.sort_key, BoardEntry.evaluation_id.desc())
        .limit(1)
        .lateral()
    )
    columns = (pairs.c.scheme_key, pairs.c.aspect, lowest.c.value)
    return (await session.execute(select(*columns).join(lowest, true()))).all()
