import numpy as np
import pytest
from skimage.color import rgb2gray, rgb2ycbcr
from skimage.metrics import structural_similarity

from tests.models.sample_images import photographs
from unveil.models.core import numba_kernels
from unveil.models.metrics import ssim as ssim_module
from unveil.models.metrics.ssim import SSIM_MODES, ssim

rng = np.random.default_rng(0)
PLAIN = photographs(6)
OTHER = np.clip(PLAIN + rng.normal(0, [[[[5]]], [[[20]]], [[[60]]], [[[5]]], [[[90]]], [[[0]]]], PLAIN.shape), 0, 255)
OTHER = OTHER.astype(np.uint8)


def _reference(plain, other, mode):
    gauss = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    settings = {"win_size": 7} if mode.endswith("7") else gauss
    if mode.startswith("rgb"):
        return structural_similarity(plain, other, channel_axis=2, data_range=255, **settings)
    if mode.startswith("gray"):
        return structural_similarity(rgb2gray(plain), rgb2gray(other), data_range=1, **settings)
    if mode == "mean7":
        return structural_similarity(plain.mean(axis=2), other.mean(axis=2), data_range=255, **settings)
    return structural_similarity(rgb2ycbcr(plain)[..., 0], rgb2ycbcr(other)[..., 0], data_range=255, **settings)


@pytest.mark.parametrize("mode", SSIM_MODES)
@pytest.mark.parametrize(("height", "width"), [(96, 96), (33, 60), (11, 12)])
def test_ssim_is_scikit_images_to_a_millionth(mode, height, width):
    plain, other = PLAIN[:, :height, :width], OTHER[:, :height, :width]
    values = ssim(plain, other, mode)
    assert values == pytest.approx([_reference(a, b, mode) for a, b in zip(plain, other, strict=True)], abs=1e-6)
    assert values[5] == pytest.approx(1.0)


def test_ssim_of_extreme_images_is_exact_too():
    plain = np.stack([np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)])
    other = plain[::-1]
    expected = [_reference(a, b, "rgb7") for a, b in zip(plain, other, strict=True)]
    assert ssim(plain, other) == pytest.approx(expected, abs=1e-6)


def test_the_compiled_ssim_equals_that_of_numpy(monkeypatch):
    rng = np.random.default_rng(4)
    levels = rng.integers(0, 256, (40, 1, 1, 3), np.uint8)  # flat images: every window is rounded alike
    cases = [
        (PLAIN[:, ::-1, :70], OTHER[:, ::-1, :70]),
        (PLAIN, 255 - PLAIN),
        (np.tile(levels, (1, 9, 4000, 1)), np.tile(levels[::-1], (1, 9, 4000, 1))),
    ]
    compiled = [ssim(*case) for case in cases]
    monkeypatch.setattr(numba_kernels, "ssim7", None)
    for case, values in zip(cases, compiled, strict=True):
        assert values == pytest.approx(ssim(*case), abs=2e-7)


def test_ssim_in_chunks_is_ssim_of_the_whole(monkeypatch):
    monkeypatch.setattr(numba_kernels, "ssim7", None)
    whole = ssim(PLAIN, OTHER)
    monkeypatch.setattr(ssim_module, "_MAX_VALUES_PER_CHUNK", 96 * 96 * 3 * 2)
    assert (ssim(PLAIN, OTHER) == whole).all()


@pytest.mark.parametrize("bad", [PLAIN[:3], PLAIN.astype(float), PLAIN[:, :8]])
def test_images_of_other_shapes_or_types_are_refused(bad):
    with pytest.raises(ValueError, match="must"):
        ssim(PLAIN, bad)


def test_an_image_smaller_than_the_window_is_refused():
    with pytest.raises(ValueError, match="at least 7x7"):
        ssim(PLAIN[:, :6], OTHER[:, :6])
