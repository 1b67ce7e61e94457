import numpy as np
import pytest

from tests.models.recovery.readings import best_reading
from unveil.models.catalog import make_scheme
from unveil.models.data.sample import sample
from unveil.models.recovery.block_scramble import read_blocks

SCHEME = make_scheme("etc", {})
IMAGES = sample().test


@pytest.mark.parametrize(("height", "width"), [(96, 96), (64, 96)])
def test_blocks_are_read_exactly_from_sixteen_ciphertexts(height, width):
    key = SCHEME.derive(bytes(32), height, width)
    images = IMAGES[::3, :height, :width]
    ciphertexts = SCHEME.encrypt(images, key)
    reading = read_blocks(ciphertexts[:16], 8)
    assert reading.blocks.shape == (height // 8, width // 8)
    best, share = best_reading(reading, ciphertexts[16:], images[16:])
    assert share == 1
    recovered = SCHEME.key_from_map(best)
    assert SCHEME.key_agreement(recovered, key) == {"turns": 1, "reversed": 1, "orders": 1, "blocks": 1}


def test_the_key_of_any_reading_decrypts_as_the_reading_does():
    ciphertexts = SCHEME.encrypt(IMAGES[:2], SCHEME.derive(bytes(32), 96, 96))
    reading = read_blocks(ciphertexts, 8).transform(6, 3, negative=True)
    assert (SCHEME.decrypt(ciphertexts, SCHEME.key_from_map(reading)) == reading.decrypt(ciphertexts)).all()


@pytest.mark.parametrize("images", [np.zeros((4, 16, 16, 3), np.uint8), IMAGES[:1, :16, :16]], ids=["constant", "one"])
def test_too_little_to_go_by_still_gives_a_reading(images):
    reading = read_blocks(images, 8)
    assert sorted(reading.blocks.ravel()) == [0, 1, 2, 3]
    assert reading.decrypt(images).shape == images.shape


def test_noise_gives_no_layout():
    noise = np.random.default_rng(0).integers(0, 256, (16, 96, 96, 3), np.uint8)
    key = SCHEME.derive(bytes(32), 96, 96)
    _, share = best_reading(read_blocks(SCHEME.encrypt(noise, key), 8), SCHEME.encrypt(noise, key), noise)
    assert share < 0.1


def test_a_single_block_is_its_own_layout():
    reading = read_blocks(IMAGES[:2, :8, :8], 8)
    assert (reading.decrypt(IMAGES[:2, :8, :8]) == IMAGES[:2, :8, :8]).all()


def test_images_of_too_many_blocks_are_refused_with_both_numbers():
    with pytest.raises(ValueError, match="at most 1200 blocks can be recovered; an image has 1201"):
        read_blocks(np.zeros((1, 8, 8 * 1201, 3), np.uint8), 8)
