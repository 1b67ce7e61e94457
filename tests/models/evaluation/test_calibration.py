import numpy as np
import pytest

from tests.models.evaluation.verdict_cases import photographs
from unveil.models.evaluation.calibration import (
    calibrate,
    calibrate_matching,
    calibrate_metric,
    calibration_images,
    degrade,
)
from unveil.models.metrics.gallery import build_gallery
from unveil.models.metrics.psnr import mse, psnr
from unveil.models.metrics.ssim import ssim


def test_ssim_does_not_recognize_moved_images_and_reports_it():
    originals = photographs()[:40]
    found = {s.distortion: s for s in calibrate_metric("ssim", ssim, originals, calibration_images(originals))}
    assert not found["turned"].recognized
    assert not found["blocks shuffled"].recognized
    assert found["posterized"].recognized


def test_notes_name_the_metrics_that_do_not_recognize_a_distortion():
    originals = photographs()[:40]
    images = {name: calibration_images(originals)[name] for name in ("turned", "negative")}
    images["noise"] = np.random.default_rng(0).integers(0, 256, originals.shape, np.uint8)
    turned, *others = calibrate(originals, build_gallery(originals), images, {"ssim": ssim})
    assert turned.startswith("calibration: images that are turned are not recognized by correlation-1, ")
    assert turned.endswith(", ssim")
    assert others[-1] == "calibration: images that are noise are not recognized by any metric"


def test_every_distortion_is_recognized_by_some_comparison():
    originals = photographs()
    found = calibrate_matching(originals, build_gallery(originals), calibration_images(originals))
    assert {s.distortion for s in found if s.recognized} == {s.distortion for s in found}
    assert any(s.metric == "correlation-4" and s.distortion == "turned" and not s.recognized for s in found)


@pytest.mark.parametrize("error", [10.0, 2000.0])
def test_images_are_degraded_to_the_error_asked_for(error):
    degraded = degrade(photographs(), error, np.random.default_rng(0))
    assert mse(photographs(), degraded).mean() == pytest.approx(error, rel=0.05)


def test_an_error_above_that_of_noise_gives_noise():
    degraded = degrade(photographs(), 1e9, np.random.default_rng(0))
    assert psnr(photographs(), degraded).mean() < 10


def test_calibration_images_of_any_size_keep_their_shape():
    originals = photographs()[:3, :50, :33]
    assert all(images.shape == originals.shape for images in calibration_images(originals).values())
