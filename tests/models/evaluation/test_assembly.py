"""D_c, N_c and L_c."""

import numpy as np
import pytest

from tests.models.sample_images import photographs
from unveil.models.evaluation.assembly import compare_assembly
from unveil.models.schemes.block_inverse import SYMMETRIES, apply_symmetry

IMAGES = photographs(2, 64, 64)


def shares(found, side=16, images=IMAGES):
    result = compare_assembly(images, np.ascontiguousarray(found), side)
    return [share[0] for share in (result.direct, result.neighbour, result.largest)]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_original_in_other_colours_is_right_in_every_respect(order):
    assert shares(IMAGES[..., order]) == [1, 1, 1]
    assert shares(255 - IMAGES[..., order]) == [1, 1, 1]


@pytest.mark.parametrize("symmetry", range(1, SYMMETRIES))
def test_a_turned_image_has_no_block_in_place_and_all_neighbours(symmetry):
    assert shares(apply_symmetry(IMAGES, symmetry)) == [0, 1, 1]


def test_a_shifted_image_keeps_the_borders_that_move_together():
    direct, neighbour, largest = shares(np.roll(IMAGES, 16, axis=2))  # one column of blocks comes to the other side
    assert direct == 0
    assert neighbour == (12 + 12 - 4) / 24
    assert largest == 12 / 16


def test_one_block_in_other_colours_breaks_its_borders_and_its_place():
    found = IMAGES.copy()
    found[:, :16, :16] = 255 - found[:, :16, :16]
    assert shares(found) == [15 / 16, 22 / 24, 15 / 16]


def test_unrelated_images_share_nothing():
    assert shares(IMAGES[::-1]) == [0, 0, 0]


def test_equal_blocks_are_interchangeable():
    flat = np.full((1, 32, 32, 3), 7, np.uint8)
    assert shares(flat, 16, flat) == [1, 1, 1]


def test_what_remains_of_a_side_is_left_out():
    assert shares(IMAGES[:, :50, :40], 16, IMAGES[:, :50, :40]) == [1, 1, 1]
    with pytest.raises(ValueError, match="hold no block"):
        compare_assembly(IMAGES[:, :8], IMAGES[:, :8], 16)
