import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from tests.models.sample_images import photographs
from unveil.models.metrics.psnr import PSNR_CEILING_DB, psnr


def test_psnr_is_scikit_images_and_finite_for_equal_images():
    plain_images, noisy = photographs(6), photographs(6)
    noisy[:5] += np.random.default_rng(0).integers(0, 30, noisy[:5].shape, np.uint8)
    values = psnr(plain_images, noisy)
    for plain, other, value in zip(plain_images[:5], noisy[:5], values, strict=False):
        assert value == pytest.approx(peak_signal_noise_ratio(plain, other, data_range=255))
    assert values[5] == PSNR_CEILING_DB
