"""Key recovery for pixel-wise encryption from ciphertexts alone."""

import tracemalloc

import numpy as np
import pytest

from tests.models.sample_images import make_mosaic, photographs
from unveil.models.recovery import pixelwise
from unveil.models.schemes.base import seed_secret
from unveil.models.schemes.pixelwise import ORDERS, Pixelwise, PixelwiseKey, PixelwiseSettings

SCHEME = Pixelwise(PixelwiseSettings())


def make_key(height: int, width: int, seed: int = 0) -> PixelwiseKey:
    return SCHEME.key(seed_secret(bytes([seed] * 32)), height, width)


def aligned_share(recovered: PixelwiseKey, true: PixelwiseKey) -> float:
    """The share of correct pixels, up to one of the 12 elements for the whole image."""
    target = pixelwise.key_to_candidates(recovered)
    return max(
        float((pixelwise.key_to_candidates(pixelwise.transform_key(true, order, negative=negative)) == target).mean())
        for order in range(6)
        for negative in (False, True)
    )


@pytest.mark.parametrize(("height", "width"), [(96, 96), (96, 40), (33, 70)])
def test_sixteen_ciphertexts_give_every_pixel(height, width):
    true = make_key(height, width)
    recovered = pixelwise.recover_relative_key(SCHEME.encrypt(photographs(16, height, width), true))
    assert aligned_share(recovered, true) == 1.0


def test_fewer_ciphertexts_give_most_pixels_and_one_gives_smooth_regions():
    true = make_key(96, 96)
    protected = SCHEME.encrypt(photographs(5), true)
    assert aligned_share(pixelwise.recover_relative_key(protected), true) > 0.8
    one = SCHEME.decrypt(protected[:1], pixelwise.recover_relative_key(protected[:1])).astype(float)
    rough, before = (np.abs(np.diff(images, axis=2)).mean() for images in (one, protected[:1].astype(float)))
    assert rough < before / 2


def test_a_pixel_needs_no_more_memory_than_documented():
    large = make_mosaic(400, 500)
    protected = SCHEME.encrypt(large, make_key(400, 500))
    tracemalloc.start()
    pixelwise.recover_relative_key(protected)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 900 * 400 * 500


def test_images_too_large_for_the_memory_are_refused():
    with pytest.raises(ValueError, match="at most 4,194,304 pixels each; these are 2049x2048"):
        pixelwise.recover_relative_key(np.zeros((1, 2048, 2049, 3), np.uint8))


def test_transform_key_changes_decryptions_as_documented():
    true, images = make_key(12, 20), photographs(2, 12, 20)
    protected = SCHEME.encrypt(images, true)
    for order in range(6):
        transformed = SCHEME.decrypt(protected, pixelwise.transform_key(true, order, negative=True))
        assert (transformed == 255 - images[..., ORDERS[order]]).all()


def test_candidates_and_keys_convert_into_each_other():
    true = make_key(30, 20)
    again = pixelwise.candidates_to_key(pixelwise.key_to_candidates(true))
    assert (again.reversed == true.reversed).all()
    assert (again.orders == true.orders).all()


@pytest.mark.parametrize("tone", [0, 127, 255])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (7, 1), (8, 8)])
def test_constant_and_tiny_images_do_not_crash_it(tone, height, width):
    recovered = pixelwise.recover_relative_key(np.full((2, height, width, 3), tone, np.uint8))
    assert recovered.orders.shape == (height, width)


@pytest.mark.parametrize(
    "ciphertexts",
    [np.zeros((0, 8, 8, 3), np.uint8), np.zeros((2, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8)],
    ids=["none", "floats", "one without a list"],
)
def test_arrays_that_are_no_ciphertexts_are_refused(ciphertexts):
    with pytest.raises(ValueError, match="ciphertexts must"):
        pixelwise.recover_relative_key(ciphertexts)
