"""SQL that only pages need; always by owner, or by what the owner's query has found."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.tables import Event


async def running_metrics(
    session: AsyncSession, evaluation_id: str, cell_ids: Sequence[str]
) -> dict[tuple[str, str], list[list[float]]]:
    """The curves so far of cells that run, by cell and name: a finished cell has rows of its own for them."""
    if not cell_ids:
        return {}
    cell = Event.data["cell"].astext
    told = await session.scalars(
        select(Event.data)
        .where(Event.evaluation_id == evaluation_id, Event.type == "metric", cell.in_(cell_ids))
        .order_by(Event.seq)
    )
    curves: dict[tuple[str, str], dict[float, float]] = {}
    for data in told:
        # a training that went on from a checkpoint tells some steps again
        curves.setdefault((data["cell"], data["name"]), {}).update(data["points"])
    return {key: [[x, y] for x, y in points.items()] for key, points in curves.items()}
