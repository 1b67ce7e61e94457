import itertools

import numpy as np
import pytest

from tests.models.sample_images import photographs
from unveil.models.catalog import SizeMismatch
from unveil.models.core import numba_kernels
from unveil.models.schemes.base import seed_secret
from unveil.models.schemes.pixelwise import Pixelwise, PixelwiseKey, PixelwiseSettings

SCHEME = Pixelwise(PixelwiseSettings())


def test_inversion_precedes_the_channel_order():
    """Pixel by pixel, as in paper section 2.3."""
    rng = np.random.default_rng(1)
    plain = rng.integers(0, 256, (2, 5, 7, 3), np.uint8)
    key = PixelwiseKey(rng.random((5, 7, 3)) < 0.5, rng.integers(0, 6, (5, 7), np.uint8))
    orders = list(itertools.permutations(range(3)))
    expected = np.empty_like(plain)
    for n, y, x in np.ndindex(2, 5, 7):
        reversed_pixel = [255 - p if key.reversed[y, x, c] else p for c, p in enumerate(plain[n, y, x])]
        for c in range(3):
            expected[n, y, x, c] = reversed_pixel[orders[key.orders[y, x]][c]]
    assert (SCHEME.encrypt(plain, key) == expected).all()


def test_all_elements_of_the_group_are_equally_likely():
    key = SCHEME.key(seed_secret(bytes(32)), 300, 300)
    assert key.reversed.mean(axis=(0, 1)) == pytest.approx(0.5, abs=0.01)
    assert np.bincount(key.orders.ravel(), minlength=6) / 90_000 == pytest.approx(1 / 6, abs=0.006)


def test_the_map_of_a_size_is_derived_from_key_and_size():
    secret = seed_secret(bytes(32))
    assert (SCHEME.key(secret, 8, 8).orders == SCHEME.key(secret, 8, 8).orders).all()
    assert (SCHEME.key(secret, 8, 16).orders[:, :8] != SCHEME.key(secret, 8, 8).orders).any()


def test_an_explicit_map_fits_one_size_only():
    explicit = SCHEME.key_to_secret(SCHEME.key(seed_secret(bytes(32)), 8, 16))
    assert SCHEME.protect(photographs(1, 8, 16), explicit).shape == (1, 8, 16, 3)
    with pytest.raises(SizeMismatch, match="16x8"):
        SCHEME.protect(photographs(1, 16, 8), explicit)


def test_the_compiled_path_under_one_key_equals_the_numpy_path(monkeypatch):
    plain, key = photographs(3, 9, 14)[:, ::-1], SCHEME.key(seed_secret(bytes(32)), 9, 14)
    compiled = SCHEME.encrypt(plain, key)
    assert (SCHEME.decrypt(compiled, key) == plain).all()
    monkeypatch.setattr(numba_kernels, "apply_pixel_transforms", None)
    assert (SCHEME.encrypt(plain, key) == compiled).all()
    assert (SCHEME.decrypt(compiled, key) == plain).all()


def test_every_element_is_undone_by_its_inverse(monkeypatch):
    """With one pixel for each of the 48 elements, compiled and in NumPy."""
    signs, orders = np.divmod(np.arange(48), 6)
    key = PixelwiseKey((signs[None, :, None] >> np.arange(3) & 1).astype(bool), orders[None].astype(np.uint8))
    plain = np.tile(np.array([1, 20, 130], np.uint8), (1, 1, 48, 1))
    protected = SCHEME.encrypt(plain, key)
    assert len(np.unique(protected[0, 0], axis=0)) == 48
    assert (SCHEME.decrypt(protected, key) == plain).all()


def test_the_compiled_path_with_a_key_for_each_image_equals_the_numpy_path(monkeypatch):
    scheme, secret = Pixelwise(PixelwiseSettings(key_mode="different")), seed_secret(bytes(range(32)))
    plain = photographs(3, 9, 14)[:, ::-1]
    compiled = scheme.protect(plain, secret, first=4)
    monkeypatch.setattr(numba_kernels, "apply_pixel_transforms", None)
    assert (scheme.protect(plain, secret, first=4) == compiled).all()
