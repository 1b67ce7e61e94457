import numpy as np
import pytest

from unveil.models.core.blocks import to_blocks
from unveil.models.data.sample import sample
from unveil.models.recovery.pixel_order import recover_value_places
from unveil.models.schemes.block_inverse import SYMMETRIES, apply_symmetry
from unveil.models.schemes.pixelwise import ORDERS

IMAGES = sample().test


def _blocks(images, side):
    return to_blocks(images, side).reshape(-1, 3 * side * side)


def _share_right(found, places, side):
    """The share of values at their places, under the symmetry and the channel order that fit best."""
    pixels, channels = np.divmod(found, 3)
    grid = np.arange(side * side).reshape(side, side, 1)
    return max(
        (3 * apply_symmetry(grid, symmetry).ravel()[pixels] + order[channels] == places).mean()
        for symmetry in range(SYMMETRIES)
        for order in ORDERS.astype(np.intp)
    )


@pytest.mark.parametrize(("side", "images"), [(2, 1), (3, 1), (4, 1), (8, 16), (16, 30)])
def test_a_few_images_show_the_place_of_every_value(side, images):
    places = np.random.default_rng(side).permutation(3 * side * side)
    blocks = _blocks(IMAGES[:images], side)[:, places]
    assert _share_right(recover_value_places(blocks, side), places, side) == 1


def test_an_order_that_nothing_changed_is_found_too():
    assert _share_right(recover_value_places(_blocks(IMAGES[:16], 8), 8), np.arange(192), 8) == 1


def test_noise_shows_no_place():
    noise = np.random.default_rng(0).integers(0, 256, (600, 192), np.uint8)
    found = recover_value_places(noise, 8)
    assert sorted(found) == list(range(192))
    assert _share_right(found, np.arange(192), 8) < 0.1


def test_the_same_seed_gives_the_same_places():
    blocks = _blocks(IMAGES[:1], 8)
    assert (recover_value_places(blocks, 8, 5) == recover_value_places(blocks, 8, 5)).all()


@pytest.mark.parametrize(
    "blocks", [np.zeros((0, 48), np.uint8), np.full((9, 48), 128, np.uint8)], ids=["none", "equal"]
)
def test_blocks_that_are_all_equal_are_refused(blocks):
    with pytest.raises(ValueError, match="all of their blocks are equal"):
        recover_value_places(blocks, 4)
