"""Which attacked images a cell keeps, and what it shares with the other cells of its evaluation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import func, select

from tests.factories import make_evaluation
from unveil.app.db.tables import Evaluation, ImageSet
from unveil.models.evaluation.attacked_images import AttackedImages
from unveil.models.metrics.line_up import LineUp
from unveil.worker.cell_images import store_cell_images
from unveil.worker.runtime import Runtime

SIDE, COUNT = 4, 6
BYTES = SIDE * SIDE * 3
RNG = np.random.default_rng(0)


def make_images(count: int = COUNT, side: int = SIDE) -> np.ndarray:
    return RNG.integers(0, 256, (count, side, side, 3), np.uint8)


@pytest.fixture
def images() -> AttackedImages:
    """Six attacked images, and a gallery of the even ones and two distractors."""
    line_up = LineUp(
        "correlation-1", np.zeros((COUNT, 2), np.int64), np.zeros((COUNT, 2), np.float32),
        np.zeros((COUNT, 2), np.bool_), np.zeros(COUNT, np.float32), np.ones(COUNT, np.int64),
    )  # fmt: skip
    gallery = np.array([0, 2, 4, 6, 7])
    return AttackedImages(make_images(), make_images(), make_images(), make_images(2), gallery, np.ones(COUNT), line_up)


def with_limit(runtime: Runtime, images: int) -> Runtime:
    return replace(runtime, settings=runtime.settings.model_copy(update={"cell_images_bytes": images * BYTES}))


def stored(runtime: Runtime, digest: bytes) -> ImageSet:
    with runtime.sessions() as session:
        return session.scalars(select(ImageSet).where(ImageSet.digest == digest)).one()


def test_images_beyond_the_limit_are_left_out(runtime: Runtime, account: str, images: AttackedImages) -> None:
    evaluation, (cell,) = make_evaluation(runtime.sessions, account)
    row = store_cell_images(with_limit(runtime, 3), evaluation, cell, images)
    assert row.image_count == COUNT
    assert len(row.ssim) == len(row.rank) == COUNT, "scores are kept of all"
    kept = stored(runtime, row.protected)
    assert kept.numbers == [0, 1, 2]
    assert kept.pixels == images.protected[:3].tobytes()
    originals = stored(runtime, row.originals)
    assert originals.numbers == [0, 1, 2, 4, 6, 7], "of the kept images, then of the gallery"
    assert originals.pixels[-2 * BYTES :] == images.distractors.tobytes()


def test_a_limit_of_nothing_keeps_the_scores(runtime: Runtime, account: str, images: AttackedImages) -> None:
    evaluation, (cell,) = make_evaluation(runtime.sessions, account)
    row = store_cell_images(with_limit(runtime, 0), evaluation, cell, images)
    assert (row.protected, row.reconstructed, row.originals) == (None, None, None)
    assert len(row.nearest) == 2 * COUNT


def test_cells_share_the_images_that_both_show(runtime: Runtime, account: str, images: AttackedImages) -> None:
    evaluation, cells = make_evaluation(runtime.sessions, account, ("none", "fr"))
    first = store_cell_images(runtime, evaluation, cells[0], replace(images, reconstructed=images.protected))
    second = store_cell_images(runtime, evaluation, cells[1], images)
    again = store_cell_images(runtime, evaluation, cells[1], images)
    assert (first.originals, first.protected) == (second.originals, second.protected)
    assert first.reconstructed == first.protected
    assert again.reconstructed == second.reconstructed
    with runtime.sessions.begin() as session:
        assert session.scalar(select(func.count()).select_from(ImageSet)) == 3
        session.delete(session.get_one(Evaluation, evaluation))
    with runtime.sessions() as session:
        assert session.scalar(select(func.count()).select_from(ImageSet)) == 0


def test_unknown_originals_and_a_deleted_evaluation(runtime: Runtime, account: str) -> None:
    evaluation, (cell,) = make_evaluation(runtime.sessions, account)
    row = store_cell_images(runtime, evaluation, cell, AttackedImages(make_images(), make_images()))
    assert (row.originals, row.ssim, row.comparison) == (None, None, None)
    assert store_cell_images(runtime, "ev_gone", cell, AttackedImages(make_images())).reconstructed is None
