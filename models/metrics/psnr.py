"""Peak signal-to-noise ratio (PSNR)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images, check_pair

Floats = npt.NDArray[np.float64]

PSNR_CEILING_DB = 100.0  # the value for two equal images, so that means stay finite


def mse(plain: Images, other: Images) -> Floats:
    """Mean squared error of each image, float64 [N] in 0..255^2; plain, other: uint8 [N, H, W, 3]."""
    check_pair(plain, other)
    means = np.empty(len(plain))
    for i in range(0, len(plain), 32):  # 32 images at a time stay in the cache
        difference = plain[i : i + 32].astype(np.float32)
        difference -= other[i : i + 32]
        np.square(difference, out=difference)
        means[i : i + 32] = difference.reshape(len(difference), -1).mean(axis=1, dtype=np.float64)
    return means


def psnr(plain: Images, other: Images) -> Floats:
    """Peak signal-to-noise ratio of each image in dB, float64 [N], at most PSNR_CEILING_DB."""
    errors = np.maximum(mse(plain, other), 255.0**2 / 10 ** (PSNR_CEILING_DB / 10))
    return 10 * np.log10(255.0**2 / errors)
