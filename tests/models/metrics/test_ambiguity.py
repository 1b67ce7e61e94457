import numpy as np
import pytest

from tests.models.evaluation.verdict_cases import photographs
from unveil.models.metrics.ambiguity import best_orientation, orient
from unveil.models.metrics.ssim import ssim


@pytest.mark.parametrize("orientation", [(0, False), (0, True), (1, False), (3, True)])
def test_the_orientation_that_an_attack_left_open_is_found(orientation):
    originals = photographs()[:6]
    inverse = next(
        (t, m) for t in range(4) for m in (False, True)
        if (orient(orient(originals, orientation), (t, m)) == originals).all()
    )  # fmt: skip
    found = best_orientation(orient(originals, orientation), originals, "rotation", ssim)
    assert (found.images == originals).all()
    assert set(found.orientations) == {inverse}


def test_a_mirror_ambiguity_does_not_turn():
    originals = photographs()[:6]
    upside_down = orient(originals, (2, False))
    found = best_orientation(upside_down, originals, "mirror", ssim)
    assert ssim(originals, found.images).mean() < 0.9
    assert best_orientation(upside_down, originals, None, ssim).images is upside_down


def test_one_orientation_for_all_images_unless_the_attack_chooses_for_each():
    originals = photographs()[:6]
    some = originals.copy()
    some[:2] = originals[:2, :, ::-1]
    assert ssim(originals, best_orientation(some, originals, "mirror", ssim).images)[:2].max() < 0.9
    found = best_orientation(some, originals, "mirror", ssim, per_image=True)
    assert (found.images == originals).all()
    assert found.orientations == ((0, True),) * 2 + ((0, False),) * 4


def test_images_that_are_not_square_are_not_turned_by_quarters():
    originals = photographs()[:4, :, :64]
    found = best_orientation(np.ascontiguousarray(originals[:, ::-1, ::-1]), originals, "rotation", ssim)
    assert (found.images == originals).all()
