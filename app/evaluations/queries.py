"""All SQL of evaluations, always by owner: rows of another account are never found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Integer,
    LargeBinary,
    Row,
    String,
    any_,
    bindparam,
    case,
    func,
    literal,
    or_,
    select,
    true,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from unveil.app.batching import RowLoader
from unveil.app.db.heartbeats import ATTACK_QUEUE, select_live_processes
from unveil.app.db.ids import is_id
from unveil.app.db.tables import (
    Cell,
    CellImages,
    Curve,
    Evaluation,
    Event,
    ImageSet,
    Key,
    ProcessHeartbeat,
    Sample,
    Scores,
)
from unveil.app.http.pagination import PageRequest, apply_cursor

_SELECT_VERSION_AND_STATUS = select(
    Evaluation.id, Evaluation.account_id, Evaluation.event_seq, Evaluation.edit_count, Evaluation.status
).where(Evaluation.id == any_(bindparam("keys", type_=ARRAY(String))))

_SETS = {
    "originals": CellImages.originals,
    "protected": CellImages.protected,
    "reconstructed": CellImages.reconstructed,
}


async def get_version_and_status(loader: RowLoader, account_id: str, id: str) -> Row[Any] | None:
    """(id, account_id, event_seq, edit_count, status), the columns that polling needs."""
    row = await loader.load(_SELECT_VERSION_AND_STATUS, id) if is_id(id) else None
    return row if row is not None and row.account_id == account_id else None


async def get_evaluation(session: AsyncSession, account_id: str, id: str) -> Evaluation | None:
    if not is_id(id):
        return None
    return await session.scalar(
        select(Evaluation)
        .where(Evaluation.id == id, Evaluation.account_id == account_id)
        .execution_options(populate_existing=True)
    )


@dataclass(frozen=True)
class EvaluationFilter:
    """Which evaluations a list holds; an empty field lets all of them pass.

    text: part of the name, of the notes or of a tag. dataset: its name or id. tag: the whole tag.
    """

    text: str = ""
    status: str = ""
    scheme: str = ""
    dataset: str = ""
    tag: str = ""

    def conditions(self) -> list[ColumnElement[bool]]:
        """WHERE clauses."""
        settings, conditions = Evaluation.settings, list[ColumnElement[bool]]()
        if self.text:
            texts = (Evaluation.name, Evaluation.notes, func.array_to_string(Evaluation.tags, ","))
            conditions.append(or_(*(text.icontains(self.text, autoescape=True) for text in texts)))
        if self.status:
            conditions.append(Evaluation.status == self.status)
        if self.scheme:
            conditions.append(settings["schemes"].contains([{"name": self.scheme}]))
        if self.dataset:
            names = (settings["dataset"].astext, settings["dataset_name"].astext)
            uploads = settings["schemes"].contains([{"dataset": self.dataset}])
            conditions.append(or_(*(name == self.dataset for name in names), uploads))
        if self.tag:
            conditions.append(literal(self.tag) == any_(Evaluation.tags))
        return conditions


async def list_evaluations(
    session: AsyncSession, account_id: str, paging: PageRequest, chosen: EvaluationFilter = EvaluationFilter()
) -> Sequence[Evaluation]:
    own = select(Evaluation).where(Evaluation.account_id == account_id, *chosen.conditions())
    return (await session.scalars(apply_cursor(own, Evaluation.id, paging))).all()


async def list_cells(session: AsyncSession, evaluation_ids: Sequence[str]) -> Sequence[Cell]:
    return (
        await session.scalars(
            select(Cell)
            .where(Cell.evaluation_id.in_(evaluation_ids))
            .order_by(Cell.evaluation_id, Cell.position)
            .options(defer(Cell.checkpoint_wrapped_key, raiseload=True))  # for workers
            .execution_options(populate_existing=True)
        )
    ).all()


async def list_cell_summaries(
    session: AsyncSession, evaluation_ids: Sequence[str], *, with_results: Sequence[str]
) -> Sequence[Row[Any]]:
    """The columns that progress and verdicts need, as plain rows: a page of evaluations has thousands of cells.

    with_results: evaluations whose cells come with their results; the result is None for all others.
    """
    result = case((Cell.evaluation_id.in_(with_results), Cell.result)).label("result")
    return (
        await session.execute(
            select(
                Cell.id, Cell.evaluation_id, Cell.scheme, Cell.attack, Cell.threat_model, Cell.status, Cell.progress,
                Cell.phase, Cell.attempt, Cell.error, Cell.started_at, Cell.finished_at, Cell.estimated_core_seconds,
                result,
            )
            .where(Cell.evaluation_id.in_(evaluation_ids))
            .order_by(Cell.evaluation_id, Cell.position)
        )
    ).all()  # fmt: skip


async def get_cell(session: AsyncSession, account_id: str, evaluation_id: str, cell_id: str) -> Cell | None:
    if not (is_id(evaluation_id) and is_id(cell_id)):
        return None
    return await session.scalar(
        select(Cell)
        .join(Evaluation, Evaluation.id == Cell.evaluation_id)
        .where(Cell.id == cell_id, Evaluation.id == evaluation_id, Evaluation.account_id == account_id)
    )


async def list_sample_summaries(session: AsyncSession, evaluation_id: str) -> Sequence[Any]:
    """(cell_id, index, ssim, has_plain) of every stored triple, lowest SSIM first."""
    return (
        await session.execute(
            select(Sample.cell_id, Sample.index, Sample.ssim, Sample.plain.is_not(None).label("has_plain"))
            .join(Cell, Cell.id == Sample.cell_id)
            .where(Cell.evaluation_id == evaluation_id)
            .order_by(Sample.cell_id, Sample.ssim, Sample.index)
        )
    ).all()


async def list_sample_triples(session: AsyncSession, cell_ids: Sequence[str]) -> Sequence[Any]:
    """(cell_id, index, ssim, MD5 of the plain image, sizes of all three) of every stored triple, lowest SSIM first."""
    image_columns = (Sample.plain, Sample.protected, Sample.reconstructed)
    sizes = [func.coalesce(func.octet_length(column), 0) for column in image_columns]
    return (
        await session.execute(
            select(Sample.cell_id, Sample.index, Sample.ssim, func.md5(Sample.plain), *sizes)
            .where(Sample.cell_id.in_(cell_ids))
            .order_by(Sample.cell_id, Sample.ssim, Sample.index)
        )
    ).all()


async def list_sample_images(session: AsyncSession, ids: Sequence[tuple[str, int]]) -> Sequence[Any]:
    """(cell_id, index, plain, protected, reconstructed) of the samples with these (cell_id, index)."""
    cells, indices = [cell for cell, _ in ids], [index for _, index in ids]
    requested = (
        func.unnest(literal(cells, ARRAY(String)), literal(indices, ARRAY(Integer)))
        .table_valued("cell", "index")
        .render_derived()
    )
    return (
        await session.execute(
            select(Sample.cell_id, Sample.index, Sample.plain, Sample.protected, Sample.reconstructed).join(
                requested, (Sample.cell_id == requested.c.cell) & (Sample.index == requested.c.index)
            )
        )
    ).all()


async def get_sample(session: AsyncSession, cell_id: str, index: int) -> Sample | None:
    return await session.get(Sample, (cell_id, index))


async def get_scores(session: AsyncSession, cell_id: str) -> Scores | None:
    return await session.get(Scores, cell_id)


async def get_cell_images(session: AsyncSession, cell_id: str) -> CellImages | None:
    return await session.get(CellImages, cell_id)


async def get_image_summary(session: AsyncSession, cell_id: str) -> Any:
    """(image_count, ssim, rank, originals, protected, reconstructed), all but the line-ups; None without them."""
    columns = (CellImages.image_count, CellImages.ssim, CellImages.rank, *_SETS.values())
    return (await session.execute(select(*columns).where(CellImages.cell_id == cell_id))).one_or_none()


async def list_stored_numbers(session: AsyncSession, evaluation_id: str, digest: bytes | None) -> list[int]:
    """The images of a set; none for no set."""
    of_set = select(ImageSet.numbers).where(ImageSet.evaluation_id == evaluation_id, ImageSet.digest == digest)
    return list(await session.scalar(of_set) or ()) if digest is not None else []


async def get_stored_image(
    session: AsyncSession, cell_id: str, set_name: str, number: int, *, attacked: bool
) -> Row[Any] | None:
    """(height, width, pixels) of one image of a set of a cell. attacked: not for a distractor of the gallery."""
    size = ImageSet.height * ImageSet.width * 3
    position = func.array_position(ImageSet.numbers, number)
    pixels = func.substr(ImageSet.pixels, (position - 1) * size + 1, size, type_=LargeBinary)
    row: Any = (
        await session.execute(
            select(ImageSet.height, ImageSet.width, pixels.label("pixels"))
            .join(Cell, Cell.evaluation_id == ImageSet.evaluation_id)
            .join(CellImages, (CellImages.cell_id == Cell.id) & (_SETS[set_name] == ImageSet.digest))
            .where(Cell.id == cell_id, true() if not attacked else CellImages.image_count > number)
        )
    ).one_or_none()
    return row if row is not None and row.pixels is not None else None


async def list_curves(session: AsyncSession, cell_ids: Sequence[str]) -> Sequence[Curve]:
    return (await session.scalars(select(Curve).where(Curve.cell_id.in_(cell_ids)).order_by(Curve.name))).all()


async def list_events_after(session: AsyncSession, evaluation_id: str, seq: int, limit: int) -> Sequence[Event]:
    return (
        await session.scalars(
            select(Event).where(Event.evaluation_id == evaluation_id, Event.seq > seq).order_by(Event.seq).limit(limit)
        )
    ).all()


async def list_trained_keys(session: AsyncSession, evaluation_ids: Sequence[str]) -> Sequence[Key]:
    """The keys that were trained for these evaluations, oldest first."""
    return (
        await session.scalars(
            select(Key)
            .where(Key.evaluation_id.in_(evaluation_ids))
            .order_by(Key.evaluation_id, Key.id)
            .execution_options(populate_existing=True)
        )
    ).all()


async def is_attack_worker_live(session: AsyncSession) -> bool:
    """Whether a worker that runs cells and trains keys has a heartbeat."""
    live = select_live_processes().where(literal(ATTACK_QUEUE) == any_(ProcessHeartbeat.queues))
    return await session.scalar(live.with_only_columns(ProcessHeartbeat.name).limit(1)) is not None
