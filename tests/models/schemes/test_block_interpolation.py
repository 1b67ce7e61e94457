"""Values predicted from the other values of an image."""

from __future__ import annotations

import numpy as np

from unveil.models.schemes import block_interpolation
from unveil.models.schemes.block_interpolation import interpolate


def test_an_image_is_predicted_alike_alone_and_among_many(monkeypatch):
    monkeypatch.setattr(block_interpolation, "_IMAGES_AT_ONCE", 2)
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (5, 12, 8, 3)).astype(np.float32)
    masked = random.random((4, 4, 3)) < 0.5
    alone = [interpolate(images[i : i + 1], masked) for i in range(5)]
    np.testing.assert_allclose(interpolate(images, masked), np.concatenate(alone), rtol=1e-4)


def test_values_in_clear_stay_and_a_smooth_image_is_predicted_well():
    rows, columns = np.mgrid[:16, :16]
    smooth = np.stack([rows * 8, columns * 8, rows * 4 + columns * 4], -1)[None].astype(np.float32)
    masked = np.random.default_rng(1).random((4, 4, 3)) < 0.5
    holes = np.tile(masked, (4, 4, 1))
    predicted = interpolate(np.where(holes, 255, smooth).astype(np.float32), masked)
    assert (predicted[:, ~holes] == smooth[:, ~holes]).all()
    assert np.abs(predicted - smooth).mean() < 8
