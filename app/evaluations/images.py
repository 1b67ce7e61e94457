"""The attacked images of a cell: which are stored, their scores under the first key, and their line-ups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.db.tables import CellImages
from unveil.app.errors.problem import NotFound
from unveil.app.evaluations import queries
from unveil.app.evaluations.schemas import AttackedImageOut, CandidateOut, LineUpOut
from unveil.app.report.evaluation import Cell
from unveil.models.core.images import to_png


class ImageKind(StrEnum):
    PLAIN = "plain"
    PROTECTED = "protected"
    RECONSTRUCTED = "reconstructed"


_SET_BY_KIND = {
    ImageKind.PLAIN: "originals",
    ImageKind.PROTECTED: "protected",
    ImageKind.RECONSTRUCTED: "reconstructed",
}


@dataclass(frozen=True)
class AttackedImage:
    """ssim, rank: under the first key; of results of earlier versions, means over keys. stored: what can be shown."""

    index: int
    ssim: float | None
    rank: float | None
    is_leaking: bool
    stored: frozenset[ImageKind]


async def list_images(session: AsyncSession, evaluation_id: str, cell: Cell) -> list[AttackedImage]:
    """Every attacked image in the order of the dataset; of results of earlier versions, at least the samples."""
    stored: dict[int, set[ImageKind]] = {}
    for sample in cell.samples:
        found = {ImageKind.PROTECTED, ImageKind.RECONSTRUCTED} | ({ImageKind.PLAIN} if sample.plain else set())
        stored[sample.index] = found
    ssim: Mapping[int, float] = {sample.index: sample.ssim for sample in cell.samples if sample.ssim is not None}
    rank: Mapping[int, float] = {}
    indices = sorted(stored)
    if (summary := await queries.get_image_summary(session, cell.id)) is not None:
        indices = list(range(summary.image_count))
        ssim, rank = dict(enumerate(summary.ssim or ())), dict(enumerate(summary.rank or ()))
        for kind, name in _SET_BY_KIND.items():
            for number in await queries.list_stored_numbers(session, evaluation_id, getattr(summary, name)):
                if number < summary.image_count:
                    stored.setdefault(number, set()).add(kind)
    elif (scores := await queries.get_scores(session, cell.id)) is not None:
        indices = scores.index
        ssim, rank = (dict(zip(scores.index, values, strict=True)) for values in (scores.ssim, scores.rank))
    leaking = set(cell.leaking_images)
    return [AttackedImage(i, ssim.get(i), rank.get(i), i in leaking, frozenset(stored.get(i, ()))) for i in indices]


def find_image(images: Sequence[AttackedImage], index: int) -> AttackedImage:
    """Raises NotFound."""
    for image in images:
        if image.index == index:
            return image
    raise NotFound(f"this cell attacked no image {index}")


async def describe_image(
    session: AsyncSession, evaluation_id: str, cell: Cell, image: AttackedImage, address: str
) -> AttackedImageOut:
    """With its line-up. address: of the cell, before the paths of its images."""
    row = await queries.get_cell_images(session, cell.id)
    originals = await queries.list_stored_numbers(session, evaluation_id, row.originals) if row else []
    return AttackedImageOut(
        index=image.index,
        ssim=image.ssim,
        rank=image.rank,
        is_leaking=image.is_leaking,
        **{
            kind.value: f"{address}/samples/{image.index}/{kind.value}.png" if kind in image.stored else None
            for kind in ImageKind
        },
        line_up=None if row is None else _line_up(row, image.index, frozenset(originals), address),
    )


def _line_up(row: CellImages, index: int, stored: frozenset[int], address: str) -> LineUpOut | None:
    if row.comparison is None:
        return None
    assert row.nearest is not None
    assert row.nearest_similarity is not None
    assert row.nearest_is_own is not None
    assert row.own_similarity is not None
    size = len(row.nearest) // row.image_count
    part = slice(index * size, (index + 1) * size)
    candidates = zip(row.nearest[part], row.nearest_similarity[part], row.nearest_is_own[part], strict=True)

    def candidate(number: int, similarity: float, is_own: bool) -> CandidateOut:
        return CandidateOut(
            number=number,
            distance=max(0.0, 1 - similarity) if math.isfinite(similarity) else None,  # 1 + 1e-7 is rounding
            is_own=is_own,
            image=f"{address}/gallery/{number}.png" if number in stored else None,
        )

    return LineUpOut(
        comparison=row.comparison,
        candidates=[candidate(*each) for each in candidates if each[0] >= 0],
        own=candidate(index, row.own_similarity[index], is_own=True),
    )


async def read_image(session: AsyncSession, cell_id: str, index: int, kind: ImageKind) -> bytes:
    """A PNG. Raises NotFound."""
    row = await queries.get_stored_image(session, cell_id, _SET_BY_KIND[kind], index, attacked=True)
    if row is not None:
        return _encode(row)
    sample = await queries.get_sample(session, cell_id, index)
    image: bytes | None = getattr(sample, kind.value, None)
    if image is None:
        raise NotFound(f"cell {cell_id} stored no {kind.value} image {index}")
    return image


async def read_gallery_image(session: AsyncSession, cell_id: str, number: int) -> bytes:
    """A PNG of an original: attacked images first, then the distractors of the gallery. Raises NotFound."""
    row = await queries.get_stored_image(session, cell_id, "originals", number, attacked=False)
    if row is None:
        raise NotFound(f"cell {cell_id} stored no original {number}")
    return _encode(row)


def _encode(row: Row[Any]) -> bytes:
    """row: pixels (RGB, 8 bits), height, width."""
    return to_png(np.frombuffer(row.pixels, np.uint8).reshape(row.height, row.width, 3))
