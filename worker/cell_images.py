"""Stores the attacked images of a cell for its page, up to the limit of `UNVEIL_CELL_IMAGES_BYTES`.

The sets are written before the cell ends, each under the digest of its content: an attempt that is repeated finds them,
and so does another cell of the evaluation that shows the same images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from unveil.app.db.tables import CellImages, Evaluation, ImageSet
from unveil.models.core.images import Images
from unveil.models.evaluation.attacked_images import AttackedImages
from unveil.models.metrics.line_up import LineUp
from unveil.worker.lease import retry_while_db_down
from unveil.worker.runtime import Runtime

_ORIGINALS_FACTOR = 4  # all cells share the originals, and line-ups show further ones


def store_cell_images(runtime: Runtime, evaluation_id: str, cell_id: str, images: AttackedImages) -> CellImages:
    """Writes the image sets; returns the row that names them, for the transaction that ends the cell.

    Keeps the images with the lowest numbers, so that the cells of an evaluation keep the same ones.
    """
    limit = runtime.settings.cell_images_bytes
    shown = [part for part in (images.protected, images.reconstructed) if part is not None]
    kept = min(len(images.protected), *(limit // _bytes_per_image(part) for part in shown))
    sets = {
        "protected": _make_set(evaluation_id, images.protected, range(kept)),
        "reconstructed": _make_set(evaluation_id, images.reconstructed, range(kept)),
        "originals": _make_originals(evaluation_id, images, kept, _ORIGINALS_FACTOR * limit),
    }
    for image_set in sets.values():
        if image_set is not None:
            _write_set(runtime, evaluation_id, cell_id, image_set)
    return CellImages(
        cell_id=cell_id,
        image_count=len(images.protected),
        ssim=None if images.ssim is None else images.ssim.tolist(),
        **{name: each and each["digest"] for name, each in sets.items()},
        **({} if images.line_up is None else _line_up_columns(images.line_up)),
    )


def _line_up_columns(line_up: LineUp) -> dict[str, Any]:
    return {
        "comparison": line_up.comparison,
        "rank": line_up.ranks.tolist(),
        "own_similarity": line_up.own_similarities.tolist(),
        "nearest": line_up.images.ravel().tolist(),
        "nearest_similarity": line_up.similarities.ravel().tolist(),
        "nearest_is_own": line_up.is_own.ravel().tolist(),
    }


def _make_originals(evaluation_id: str, images: AttackedImages, kept: int, limit: int) -> dict[str, Any] | None:
    """The originals of the kept images, then the rest of the gallery."""
    if images.originals is None or not kept:
        return None
    assert images.gallery is not None
    assert images.distractors is not None
    numbers = [*range(kept), *sorted(int(number) for number in images.gallery if number >= kept)]
    numbers = numbers[: limit // _bytes_per_image(images.originals)]
    attacked = [number for number in numbers if number < len(images.originals)]
    others = [number - len(images.originals) for number in numbers[len(attacked) :]]
    pixels = np.concatenate([images.originals[attacked], images.distractors[others]])
    return _set_values(evaluation_id, pixels, numbers)


def _make_set(evaluation_id: str, images: Images | None, numbers: range) -> dict[str, Any] | None:
    if images is None or not numbers:
        return None
    return _set_values(evaluation_id, images[: len(numbers)], numbers)


def _set_values(evaluation_id: str, images: Images, numbers: Iterable[int]) -> dict[str, Any]:
    height, width = images.shape[1:3]
    listed, pixels = list(numbers), images.tobytes()
    digest = hashlib.sha256(f"{height} {width} {listed} ".encode())
    digest.update(pixels)
    values = {"height": height, "width": width, "numbers": listed, "pixels": pixels}
    return {"evaluation_id": evaluation_id, "digest": digest.digest(), **values}


def _bytes_per_image(images: Images) -> int:
    return int(np.prod(images.shape[1:]))


def _write_set(runtime: Runtime, evaluation_id: str, cell_id: str, values: dict[str, Any]) -> None:
    """Writes nothing if the set is there, or the evaluation is not."""

    def write() -> None:
        with runtime.sessions.begin() as session:
            held = select(ImageSet.digest).where(
                ImageSet.evaluation_id == evaluation_id, ImageSet.digest == values["digest"]
            )
            if session.scalar(held) is None and session.get(Evaluation, evaluation_id) is not None:
                session.execute(insert(ImageSet).values(**values).on_conflict_do_nothing())

    retry_while_db_down(cell_id, write)
