import numpy as np
import pytest

from tests.models.sample_images import photographs
from unveil.models.catalog import make_scheme
from unveil.models.metrics.fixed_positions import fixed_positions
from unveil.models.schemes.base import seed_secret

PLAIN = photographs(6)
RNG = np.random.default_rng(0)


def _permute_values(images, moved_share):
    """One permutation of all values of an image; a random share of the positions takes part."""
    flat = images.reshape(len(images), -1).copy()
    moved = RNG.permutation(flat.shape[1])[: round(moved_share * flat.shape[1])]
    flat[:, moved] = flat[:, RNG.permutation(moved)]
    return flat.reshape(images.shape)


def test_an_unprotected_image_is_in_place():
    assert fixed_positions(PLAIN, PLAIN) == 1


@pytest.mark.parametrize("fixed", [0.65, 0.25, 0.0])
def test_a_restricted_permutation_keeps_its_share_of_values(fixed):
    assert fixed_positions(PLAIN, _permute_values(PLAIN, 1 - fixed)) == pytest.approx(fixed, abs=0.02)


def test_half_of_the_values_inverted_leaves_the_other_half_in_place():
    mask = RNG.random(PLAIN.shape[1:]) < 0.5
    assert fixed_positions(PLAIN, np.where(mask, 255 - PLAIN, PLAIN)) == pytest.approx(0.5, abs=0.03)


def test_blocks_whose_values_are_only_shuffled_are_in_place():
    side, count = 8, 12
    blocks = PLAIN.reshape(len(PLAIN), count, side, count, side, 3).transpose(0, 1, 3, 2, 4, 5)
    shuffled = blocks.reshape(len(PLAIN), count, count, -1)[..., RNG.permutation(side * side * 3)]
    moved = RNG.permutation(count * count)[:36]  # a quarter of the blocks moves, too
    flat = shuffled.reshape(len(PLAIN), count * count, -1).copy()
    flat[:, moved] = flat[:, np.roll(moved, 1)]
    images = flat.reshape(len(PLAIN), count, count, side, side, 3).transpose(0, 1, 3, 2, 4, 5).reshape(PLAIN.shape)
    assert fixed_positions(PLAIN, images, side) == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize(("name", "settings"), [("tanaka", {}), ("ele", {}), ("etc", {})])
def test_an_unrestricted_scheme_leaves_almost_nothing_in_place(name, settings):
    scheme = make_scheme(name, settings)
    protected = scheme.protect(PLAIN, seed_secret(bytes(32)))
    assert fixed_positions(PLAIN, protected, scheme.size_multiple) < 0.03


def test_flat_images_do_not_count_as_blocks_in_place():
    flat = np.full((1, 16, 16, 3), 7, np.uint8)
    assert fixed_positions(flat, 255 - flat) == 0


def test_no_image_is_refused():
    with pytest.raises(ValueError, match="at least one image"):
        fixed_positions(PLAIN[:0], PLAIN[:0])
