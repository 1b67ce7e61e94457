import numpy as np
import pytest

from tests.models.evaluation.verdict_cases import leaves, noise, photographs
from unveil.models.metrics.naturalness import naturalness


def test_photographs_look_natural_and_noise_does_not():
    assert naturalness(photographs()).looks_natural.mean() > 0.95
    assert naturalness(leaves(100)).looks_natural.all()
    assert not naturalness(noise(leaves(100))).looks_natural.any()


def test_the_slope_is_that_of_the_spectrum():
    rng = np.random.default_rng(0)
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(96), np.fft.fftfreq(96)))
    radius[0, 0] = 1
    waves = np.fft.ifft2(np.fft.fft2(rng.normal(size=(20, 96, 96))) / radius).real
    waves = 127 + 40 * waves / waves.std(axis=(1, 2), keepdims=True)
    images = np.repeat(np.clip(waves, 0, 255).astype(np.uint8)[..., None], 3, axis=3)
    assert naturalness(images).slope.mean() == pytest.approx(-2, abs=0.3)
    assert naturalness(noise(images)).slope.mean() == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(
    "images", [np.zeros((0, 9, 9, 3), np.uint8), np.zeros((2, 3, 3, 3), np.uint8), np.full((2, 32, 32, 3), 7, np.uint8)]
)
def test_images_without_a_spectrum_do_not_look_natural(images):
    assert not naturalness(images).looks_natural.any()
