"""All SQL of evaluations; always by owner, so what belongs to another account is not there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ARRAY, Integer, Row, String, any_, bindparam, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from unveil.app.batching import Lookups
from unveil.app.db.ids import is_id
from unveil.app.db.tables import Cell, Curve, Evaluation, Event, Key, Sample, Scores
from unveil.app.http.pagination import PageRequest, keyset

_STANDING = select(Evaluation.id, Evaluation.account_id, Evaluation.version, Evaluation.status).where(
    Evaluation.id == any_(bindparam("keys", type_=ARRAY(String)))
)


async def standing_of(lookups: Lookups, account_id: str, id: str) -> Row[Any] | None:
    """(id, account_id, version, status): all that a poll looks at."""
    row = await lookups.find(_STANDING, id) if is_id(id) else None
    return row if row is not None and row.account_id == account_id else None


async def evaluation(session: AsyncSession, account_id: str, id: str) -> Evaluation | None:
    if not is_id(id):
        return None
    return await session.scalar(
        select(Evaluation)
        .where(Evaluation.id == id, Evaluation.account_id == account_id)
        .execution_options(populate_existing=True)
    )


async def evaluations(session: AsyncSession, account_id: str, paging: PageRequest) -> Sequence[Evaluation]:
    mine = select(Evaluation).where(Evaluation.account_id == account_id)
    return (await session.scalars(keyset(mine, Evaluation.id, paging))).all()


async def cells(session: AsyncSession, evaluation_ids: Sequence[str]) -> Sequence[Cell]:
    return (
        await session.scalars(
            select(Cell)
            .where(Cell.evaluation_id.in_(evaluation_ids))
            .order_by(Cell.evaluation_id, Cell.position)
            .options(defer(Cell.recovered, raiseload=True), defer(Cell.checkpoint_lock, raiseload=True))  # for workers
            .execution_options(populate_existing=True)
        )
    ).all()


async def cell_heads(session: AsyncSession, evaluation_ids: Sequence[str]) -> Sequence[Row[Any]]:
    """What progress and verdicts are made of, as plain rows: a page of evaluations has thousands of cells."""
    return (
        await session.execute(
            select(
                Cell.evaluation_id, Cell.scheme, Cell.attack, Cell.status, Cell.progress, Cell.phase,
                Cell.started_at, Cell.finished_at, Cell.result,
            )
            .where(Cell.evaluation_id.in_(evaluation_ids))
            .order_by(Cell.evaluation_id, Cell.position)
        )
    ).all()  # fmt: skip


async def cell(session: AsyncSession, account_id: str, evaluation_id: str, cell_id: str) -> Cell | None:
    if not (is_id(evaluation_id) and is_id(cell_id)):
        return None
    return await session.scalar(
        select(Cell)
        .join(Evaluation, Evaluation.id == Cell.evaluation_id)
        .where(Cell.id == cell_id, Evaluation.id == evaluation_id, Evaluation.account_id == account_id)
    )


async def sample_heads(session: AsyncSession, evaluation_id: str) -> Sequence[Any]:
    """(cell_id, index, ssim, has_plain) of every stored triple, worst first, without the images."""
    return (
        await session.execute(
            select(Sample.cell_id, Sample.index, Sample.ssim, Sample.plain.is_not(None).label("has_plain"))
            .join(Cell, Cell.id == Sample.cell_id)
            .where(Cell.evaluation_id == evaluation_id)
            .order_by(Sample.cell_id, Sample.ssim, Sample.index)
        )
    ).all()


async def triples(session: AsyncSession, cell_ids: Sequence[str]) -> Sequence[Any]:
    """(cell_id, index, ssim, sum of the plain picture, bytes of all three) of every stored triple, worst first."""
    pictures = (Sample.plain, Sample.protected, Sample.reconstructed)
    sizes = [func.coalesce(func.octet_length(picture), 0) for picture in pictures]
    return (
        await session.execute(
            select(Sample.cell_id, Sample.index, Sample.ssim, func.md5(Sample.plain), *sizes)
            .where(Sample.cell_id.in_(cell_ids))
            .order_by(Sample.cell_id, Sample.ssim, Sample.index)
        )
    ).all()


async def pictures(session: AsyncSession, ids: Sequence[tuple[str, int]]) -> Sequence[Any]:
    """(cell_id, index, plain, protected, reconstructed) of these."""
    cells, indices = [cell for cell, _ in ids], [index for _, index in ids]
    wanted = (
        func.unnest(literal(cells, ARRAY(String)), literal(indices, ARRAY(Integer)))
        .table_valued("cell", "index")
        .render_derived()
    )
    return (
        await session.execute(
            select(Sample.cell_id, Sample.index, Sample.plain, Sample.protected, Sample.reconstructed).join(
                wanted, (Sample.cell_id == wanted.c.cell) & (Sample.index == wanted.c.index)
            )
        )
    ).all()


async def sample(session: AsyncSession, cell_id: str, index: int) -> Sample | None:
    return await session.get(Sample, (cell_id, index))


async def scores(session: AsyncSession, cell_id: str) -> Scores | None:
    return await session.get(Scores, cell_id)


async def curves(session: AsyncSession, cell_ids: Sequence[str]) -> Sequence[Curve]:
    return (await session.scalars(select(Curve).where(Curve.cell_id.in_(cell_ids)).order_by(Curve.name))).all()


async def events_after(session: AsyncSession, evaluation_id: str, seq: int, limit: int) -> Sequence[Event]:
    return (
        await session.scalars(
            select(Event).where(Event.evaluation_id == evaluation_id, Event.seq > seq).order_by(Event.seq).limit(limit)
        )
    ).all()


async def trained_keys(session: AsyncSession, evaluation_ids: Sequence[str]) -> Sequence[Key]:
    """The keys that were made for these evaluations, in the order of their making."""
    return (
        await session.scalars(
            select(Key)
            .where(Key.evaluation_id.in_(evaluation_ids))
            .order_by(Key.evaluation_id, Key.id)
            .execution_options(populate_existing=True)
        )
    ).all()


async def key(session: AsyncSession, account_id: str, id: str) -> Key | None:
    if not is_id(id):
        return None
    return await session.scalar(select(Key).where(Key.id == id, Key.account_id == account_id))
