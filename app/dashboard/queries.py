"""SQL that only pages need; always by owner, or by what the owner's query has found."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Float, cast, func, or_, select, true
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH, distinct_on
from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Evaluation, Event, Key

_EVALUATIONS_FOR_CHOICES = 1000


async def get_running_curves(
    session: AsyncSession, evaluation_id: str, cell_ids: Sequence[str]
) -> dict[str, dict[str, list[list[float]]]]:
    """The curves so far of cells that run, by cell and name: a finished cell has rows of its own for them."""
    if not cell_ids:
        return {}
    cell = Event.data["cell"].astext
    event_payloads = await session.scalars(
        select(Event.data)
        .where(Event.evaluation_id == evaluation_id, Event.type == "metric", cell.in_(cell_ids))
        .order_by(Event.seq)
    )
    curves: dict[str, dict[str, dict[float, float]]] = {}
    for data in event_payloads:
        # a training that went on from a checkpoint tells some steps again
        curves.setdefault(data["cell"], {}).setdefault(data["name"], {}).update(data["points"])
    return {
        id: {name: [[x, y] for x, y in points.items()] for name, points in points_by_name.items()}
        for id, points_by_name in curves.items()
    }


async def latest_ready_keys(
    session: AsyncSession, account_id: str, schemes: Sequence[str], *, audit_only: bool
) -> dict[str, Key]:
    """The account's newest trained key of each scheme that can be used.

    audit_only: include keys that were trained for an evaluation, which POST /encrypt refuses.
    """
    rows = await session.scalars(
        select(Key)
        .ext(distinct_on(Key.scheme))
        .where(
            Key.account_id == account_id,
            Key.training_request.is_not(None),  # as the index on them says
            Key.scheme.in_(schemes),
            Key.status == Status.SUCCEEDED,
            Key.destroyed_at.is_(None),
            true() if audit_only else func.coalesce(Key.training_request["audit_only"].as_boolean(), False).is_(False),
        )
        .order_by(Key.scheme, Key.id.desc())
    )
    return {row.scheme: row for row in rows}


async def count_evaluations_by_dataset(
    session: AsyncSession, account_id: str, datasets: Sequence[str]
) -> dict[str, int]:
    """The number of the account's evaluations that use each dataset: as test images, public images or ciphertexts."""
    if not datasets:
        return {}
    dataset_names = [
        func.jsonb_path_query_array(Evaluation.settings, cast(path, JSONPATH), type_=JSONB)
        for path in ("$.**.dataset", "$.public_dataset")
    ]
    counts = [func.count().filter(or_(*(names.has_key(id) for names in dataset_names))) for id in datasets]
    row = (await session.execute(select(*counts).where(Evaluation.account_id == account_id))).one()
    return dict(zip(datasets, row, strict=True))


async def list_filter_choices(session: AsyncSession, account_id: str) -> tuple[dict[str, str], list[str]]:
    """What the account's latest evaluations can be filtered by: datasets (id to name) and tags, in their order."""
    recent = (
        select(Evaluation.settings, Evaluation.tags)
        .where(Evaluation.account_id == account_id)
        .order_by(Evaluation.id.desc())
        .limit(_EVALUATIONS_FOR_CHOICES)
        .subquery()
    )
    id, name = recent.c.settings["dataset"].astext, recent.c.settings["dataset_name"].astext
    datasets = await session.execute(select(id, func.max(func.coalesce(name, id))).where(id.is_not(None)).group_by(id))
    tags = await session.scalars(select(func.unnest(recent.c.tags).label("tag")).distinct().order_by("tag"))
    return dict(sorted(((id, name) for id, name in datasets), key=lambda item: item[1])), list(tags)


async def recent_cell_durations(
    session: AsyncSession, account_id: str, profile: str
) -> dict[tuple[str, str], list[float]]:
    """How long the account's latest cells of a profile took, by scheme and attack."""
    scheme, attack = Cell.scheme["name"].astext, Cell.attack["name"].astext
    rows = await session.execute(
        select(scheme, attack, Cell.result["seconds"].astext.cast(Float))
        .join(Evaluation, Evaluation.id == Cell.evaluation_id)
        .where(
            Evaluation.account_id == account_id,
            Evaluation.settings["profile"].astext == profile,
            Cell.status == Status.SUCCEEDED,
        )
        .order_by(Cell.id.desc())
        .limit(500)
    )
    durations: dict[tuple[str, str], list[float]] = {}
    for name, attack_name, seconds in rows:
        durations.setdefault((name, attack_name), []).append(seconds)
    return durations
