"""Moved blocks of permuted values, read from ciphertexts alone."""

import numpy as np
import pytest

from tests.models.recovery.inverses import best_inverse
from unveil.models.catalog import make_scheme
from unveil.models.core.structure import BlockMap
from unveil.models.data.sample import sample
from unveil.models.recovery.permuted_values import invert_moved_blocks

IMAGES = sample().test
MOVED = BlockMap(8, "value", blocks_move=True)


@pytest.mark.parametrize(
    ("settings", "height", "width"),
    [
        ({"block": 8}, 96, 96),
        ({"block": 8, "negative_positive": True}, 64, 96),
        ({"block": 8, "fixed_blocks": 0.6, "fixed_values": 0.6}, 96, 96),
        ({"block": 8, "fixed_values": 1.0}, 96, 96),
    ],
)
def test_blocks_are_read_exactly_from_sixteen_ciphertexts(settings, height, width):
    scheme = make_scheme("vit-permutation", settings)
    key = scheme.derive(bytes(32), height, width)
    images = IMAGES[::3, :height, :width]
    ciphertexts = scheme.encrypt(images, key)
    inverse = invert_moved_blocks(ciphertexts[:16], scheme.structure)
    best, share = best_inverse(inverse, ciphertexts[16:], images[16:])
    assert share == 1
    assert scheme.key_agreement(scheme.key_from_map(best), key) == {"blocks": 1, "values": 1, "reversed": 1}


def test_noise_gives_no_layout():
    """The negative control: nothing that was not in the ciphertexts appears."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8)
    read = invert_moved_blocks(noise, MOVED).decrypt(noise).astype(np.float64)
    neighbours = np.corrcoef(read[:, :, 1:].ravel(), read[:, :, :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.1


def test_constant_ciphertexts_are_refused():
    with pytest.raises(ValueError, match="equal"):
        invert_moved_blocks(np.full((3, 32, 32, 3), 7, np.uint8), MOVED)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (96, 64), (96, 8), (8, 96)])
def test_values_that_stay_in_place_show_how_the_image_is_turned(height, width):
    scheme = make_scheme("vit-permutation", {"block": 8, "fixed_values": 1.0})
    key = scheme.derive(bytes(32), height, width)
    images = IMAGES[:16, :height, 40 : 40 + width] if width == 8 else IMAGES[:16, :height, :width]
    inverse = invert_moved_blocks(scheme.encrypt(images, key), scheme.structure)
    assert scheme.key_agreement(scheme.key_from_map(inverse), key) == {"blocks": 1, "values": 1, "reversed": 1}
