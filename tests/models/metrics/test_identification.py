import numpy as np
import pytest
from skimage.color import rgb2gray
from skimage.transform import downscale_local_mean

from tests.models.sample_images import photographs
from unveil.models.core import numba_kernels
from unveil.models.metrics import identification as identification_module
from unveil.models.metrics.identification import SCALES, identification


def test_an_original_is_identified_from_its_inversion_and_not_from_noise():
    plain = photographs(40)
    assert identification(plain, 255 - plain).top1 == pytest.approx(1.0)
    noise = np.random.default_rng(3).integers(0, 256, plain.shape, np.uint8)
    assert identification(plain, noise).top1.max() < 0.2
    flat = np.full_like(plain, 90)
    # every tie counts against the attacker
    assert identification(plain, flat).top1.max() == 0


@pytest.mark.parametrize("side", [96, 512])
def test_a_flat_original_is_never_identified(side):
    gallery = np.random.default_rng(4).integers(0, 256, (20, side, side, 3), np.uint8)
    for level in np.random.default_rng(5).integers(0, 256, (10, 3), np.uint8):
        gallery[0] = level
        negative = gallery.copy()
        negative[0] = 255 - level
        assert (identification(gallery, negative).ranks[:, 0] > 1).all(), level


def test_the_rank_is_the_place_in_the_gallery():
    plain = photographs(10)
    swapped = plain.copy()
    swapped[[0, 1]] = plain[[1, 0]]
    ranks = identification(plain, swapped).ranks[0]
    assert (ranks[2:] == 1).all()
    assert (ranks[:2] > 1).all()


def test_copies_of_an_original_tie_wherever_they_stand(monkeypatch):
    plain = photographs(30)
    plain[20:] = plain[:10]
    seen = np.roll(plain, 1, axis=2)
    whole = identification(plain, seen).ranks
    assert (whole[:, :10] == whole[:, 20:]).all()
    assert whole[:, :10].min() == 2  # a copy counts against the attacker
    monkeypatch.setattr(identification_module, "_MAX_SIMILARITIES_PER_BATCH", 7 * 30)
    assert (identification(plain, seen).ranks == whole).all()


@pytest.mark.parametrize("size", [(96, 96), (33, 50), (7, 9), (3, 40)])
def test_compiled_vectors_equal_those_of_numpy(size, monkeypatch):
    images = np.ascontiguousarray(photographs(40)[:, : size[0], : size[1]])
    images[7] = 201, 7, 55  # flat
    compiled = identification_module._identification_vectors(images)
    monkeypatch.setattr(numba_kernels, "identification_vectors", None)
    for ours, plain in zip(compiled, identification_module._identification_vectors(images), strict=True):
        assert ours == pytest.approx(plain, abs=1e-6)
        assert not ours[7].any()
        assert np.linalg.norm(np.delete(ours, 7, axis=0), axis=1) == pytest.approx(1)


def test_vectors_are_grey_images_averaged_down():
    images = photographs(3)
    for scale, ours in zip(SCALES, identification_module._identification_vectors(images), strict=True):
        grey = downscale_local_mean(rgb2gray(images), (1, scale, scale)).reshape(3, -1)
        flat = grey - grey.mean(axis=1, keepdims=True)
        assert ours == pytest.approx(flat / np.linalg.norm(flat, axis=1, keepdims=True), abs=1e-6)
