import numpy as np
import pytest
from skimage.color import rgb2gray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from skimage.transform import downscale_local_mean

from tests.models.sample_images import photographs
from unveil.models.core import numba_kernels
from unveil.models.metrics import image_metrics

rng = np.random.default_rng(0)
PLAIN = photographs(6)
OTHER = np.clip(PLAIN + rng.normal(0, [[[[5]]], [[[20]]], [[[60]]], [[[5]]], [[[90]]], [[[0]]]], PLAIN.shape), 0, 255)
OTHER = OTHER.astype(np.uint8)


def _reference(plain, other, mode):
    gauss = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    settings = {"win_size": 7} if mode.endswith("7") else gauss
    if mode.startswith("rgb"):
        return structural_similarity(plain, other, channel_axis=2, data_range=255, **settings)
    return structural_similarity(rgb2gray(plain), rgb2gray(other), data_range=1, **settings)


@pytest.mark.parametrize("mode", image_metrics.SSIM_MODES)
@pytest.mark.parametrize(("height", "width"), [(96, 96), (33, 60), (11, 12)])
def test_ssim_is_scikit_images_to_a_millionth(mode, height, width):
    plain, other = PLAIN[:, :height, :width], OTHER[:, :height, :width]
    values = image_metrics.ssim(plain, other, mode)
    assert values == pytest.approx([_reference(a, b, mode) for a, b in zip(plain, other, strict=True)], abs=1e-6)
    assert values[5] == pytest.approx(1.0)


def test_ssim_of_extreme_images_is_exact_too():
    plain = np.stack([np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)])
    other = plain[::-1]
    expected = [_reference(a, b, "rgb7") for a, b in zip(plain, other, strict=True)]
    assert image_metrics.ssim(plain, other) == pytest.approx(expected, abs=1e-6)


def test_the_compiled_ssim_is_the_plain_one(monkeypatch):
    rng = np.random.default_rng(4)
    levels = rng.integers(0, 256, (40, 1, 1, 3), np.uint8)  # flat images: every window is rounded alike
    cases = [
        (PLAIN[:, ::-1, :70], OTHER[:, ::-1, :70]),
        (PLAIN, 255 - PLAIN),
        (np.tile(levels, (1, 9, 4000, 1)), np.tile(levels[::-1], (1, 9, 4000, 1))),
    ]
    compiled = [image_metrics.ssim(*case) for case in cases]
    monkeypatch.setattr(numba_kernels, "ssim7", None)
    for case, values in zip(cases, compiled, strict=True):
        assert values == pytest.approx(image_metrics.ssim(*case), abs=2e-7)


def test_ssim_in_chunks_is_ssim_of_the_whole(monkeypatch):
    monkeypatch.setattr(numba_kernels, "ssim7", None)
    whole = image_metrics.ssim(PLAIN, OTHER)
    monkeypatch.setattr(image_metrics, "_MAX_VALUES_PER_CHUNK", 96 * 96 * 3 * 2)
    assert (image_metrics.ssim(PLAIN, OTHER) == whole).all()


def test_psnr_is_scikit_images_and_finite_for_equal_images():
    values = image_metrics.psnr(PLAIN, OTHER)
    for plain, other, value in zip(PLAIN[:5], OTHER[:5], values, strict=False):
        assert value == pytest.approx(peak_signal_noise_ratio(plain, other, data_range=255))
    assert values[5] == image_metrics.PSNR_CEILING


def test_an_original_is_identified_in_its_negative_and_not_in_noise():
    plain = photographs(40)
    assert image_metrics.identification(plain, 255 - plain).top1 == pytest.approx(1.0)
    noise = np.random.default_rng(3).integers(0, 256, plain.shape, np.uint8)
    assert image_metrics.identification(plain, noise).top1.max() < 0.2
    flat = np.full_like(plain, 90)
    # every tie counts against the attacker
    assert image_metrics.identification(plain, flat).top1.max() == 0


@pytest.mark.parametrize("side", [96, 512])
def test_a_flat_original_is_never_identified(side):
    gallery = np.random.default_rng(4).integers(0, 256, (20, side, side, 3), np.uint8)
    for level in np.random.default_rng(5).integers(0, 256, (10, 3), np.uint8):
        gallery[0] = level
        negative = gallery.copy()
        negative[0] = 255 - level
        assert (image_metrics.identification(gallery, negative).ranks[:, 0] > 1).all(), level


def test_the_rank_is_the_place_in_the_gallery():
    plain = photographs(10)
    swapped = plain.copy()
    swapped[[0, 1]] = plain[[1, 0]]
    ranks = image_metrics.identification(plain, swapped).ranks[0]
    assert (ranks[2:] == 1).all()
    assert (ranks[:2] > 1).all()


def test_copies_of_an_original_tie_wherever_they_stand(monkeypatch):
    plain = photographs(30)
    plain[20:] = plain[:10]
    seen = np.roll(plain, 1, axis=2)
    whole = image_metrics.identification(plain, seen).ranks
    assert (whole[:, :10] == whole[:, 20:]).all()
    assert whole[:, :10].min() == 2  # a copy counts against the attacker
    monkeypatch.setattr(image_metrics, "_MAX_SIMILARITIES_PER_BATCH", 7 * 30)
    assert (image_metrics.identification(plain, seen).ranks == whole).all()


@pytest.mark.parametrize("size", [(96, 96), (33, 50), (7, 9), (3, 40)])
def test_compiled_profiles_are_those_of_numpy(size, monkeypatch):
    images = np.ascontiguousarray(photographs(40)[:, : size[0], : size[1]])
    images[7] = 201, 7, 55  # flat
    compiled = image_metrics._identification_vectors(images)
    monkeypatch.setattr(numba_kernels, "identification_vectors", None)
    for ours, plain in zip(compiled, image_metrics._identification_vectors(images), strict=True):
        assert ours == pytest.approx(plain, abs=1e-6)
        assert not ours[7].any()
        assert np.linalg.norm(np.delete(ours, 7, axis=0), axis=1) == pytest.approx(1)


def test_profiles_are_of_grey_images_averaged_down():
    images = photographs(3)
    for scale, ours in zip(image_metrics.SCALES, image_metrics._identification_vectors(images), strict=True):
        grey = downscale_local_mean(rgb2gray(images), (1, scale, scale)).reshape(3, -1)
        flat = grey - grey.mean(axis=1, keepdims=True)
        assert ours == pytest.approx(flat / np.linalg.norm(flat, axis=1, keepdims=True), abs=1e-6)


def test_an_interval_of_many_images_needs_little_memory_and_is_the_same(monkeypatch):
    values = np.random.default_rng(6).random(300)
    whole = image_metrics.summary(values)
    monkeypatch.setattr(image_metrics, "_MAX_DRAWS_PER_BATCH", 7 * 300)
    assert image_metrics.summary(values) == whole


def test_binomial_intervals_are_clopper_pearsons():
    assert image_metrics.binomial_interval(0, 10, 0.95) == pytest.approx((0, 0.3085), abs=1e-4)
    assert image_metrics.binomial_interval(5, 10, 0.95) == pytest.approx((0.1871, 0.8129), abs=1e-4)
    assert image_metrics.binomial_interval(10, 10, 0.95) == pytest.approx((0.6915, 1), abs=1e-4)


def test_the_bootstrap_interval_covers_as_it_says():
    draws = np.random.default_rng(5).normal(0.3, 0.2, (200, 60))
    covered = sum(s["ci_low"] <= 0.3 <= s["ci_high"] for s in map(image_metrics.summary, draws))
    assert 176 <= covered <= 200
    constant = image_metrics.summary(np.full(7, 0.1))
    assert constant["ci_low"] == pytest.approx(0.1)
    assert constant["n"] == 7


@pytest.mark.parametrize("bad", [PLAIN[:3], PLAIN.astype(float), PLAIN[:, :8]])
def test_images_that_do_not_match_are_refused(bad):
    with pytest.raises(ValueError, match="must"):
        image_metrics.ssim(PLAIN, bad)


def test_an_image_smaller_than_the_window_is_refused():
    with pytest.raises(ValueError, match="at least 7x7"):
        image_metrics.ssim(PLAIN[:, :6], OTHER[:, :6])
