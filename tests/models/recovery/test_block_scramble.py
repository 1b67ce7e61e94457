import numpy as np
import pytest

from tests.models.recovery.inverses import best_inverse
from unveil.models.catalog import make_scheme
from unveil.models.data.sample import sample
from unveil.models.recovery.block_scramble import invert_blocks

SCHEME = make_scheme("etc", {})
IMAGES = sample().test


@pytest.mark.parametrize(("height", "width"), [(96, 96), (64, 96)])
def test_blocks_are_read_exactly_from_sixteen_ciphertexts(height, width):
    key = SCHEME.derive(bytes(32), height, width)
    images = IMAGES[::3, :height, :width]
    ciphertexts = SCHEME.encrypt(images, key)
    inverse = invert_blocks(ciphertexts[:16], 8)
    assert inverse.blocks.shape == (height // 8, width // 8)
    best, share = best_inverse(inverse, ciphertexts[16:], images[16:])
    assert share == 1
    recovered = SCHEME.key_from_map(best)
    assert SCHEME.key_agreement(recovered, key) == {"turns": 1, "reversed": 1, "orders": 1, "blocks": 1}


def test_the_key_of_any_inverse_decrypts_as_the_inverse_does():
    ciphertexts = SCHEME.encrypt(IMAGES[:2], SCHEME.derive(bytes(32), 96, 96))
    inverse = invert_blocks(ciphertexts, 8).transform(6, 3, negative=True)
    assert (SCHEME.decrypt(ciphertexts, SCHEME.key_from_map(inverse)) == inverse.decrypt(ciphertexts)).all()


@pytest.mark.parametrize("images", [np.zeros((4, 16, 16, 3), np.uint8), IMAGES[:1, :16, :16]], ids=["constant", "one"])
def test_too_little_to_go_by_still_gives_an_inverse(images):
    inverse = invert_blocks(images, 8)
    assert sorted(inverse.blocks.ravel()) == [0, 1, 2, 3]
    assert inverse.decrypt(images).shape == images.shape


def test_noise_gives_no_layout():
    noise = np.random.default_rng(0).integers(0, 256, (16, 96, 96, 3), np.uint8)
    key = SCHEME.derive(bytes(32), 96, 96)
    _, share = best_inverse(invert_blocks(SCHEME.encrypt(noise, key), 8), SCHEME.encrypt(noise, key), noise)
    assert share < 0.1


def test_a_single_block_is_its_own_layout():
    inverse = invert_blocks(IMAGES[:2, :8, :8], 8)
    assert (inverse.decrypt(IMAGES[:2, :8, :8]) == IMAGES[:2, :8, :8]).all()


def test_images_of_too_many_blocks_are_refused_with_both_numbers():
    with pytest.raises(ValueError, match="at most 1200 blocks can be recovered; an image has 1201"):
        invert_blocks(np.zeros((1, 8, 8 * 1201, 3), np.uint8), 8)
