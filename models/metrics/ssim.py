"""Structural similarity (SSIM), the main figure of every cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import GREY_WEIGHTS_10000, Images, check_pair

SsimMode = Literal["rgb7", "gray7", "rgb-gauss11", "gray-gauss11", "mean7", "ycbcr-gauss11"]
SSIM_MODES: tuple[SsimMode, ...] = get_args(SsimMode)

Floats = npt.NDArray[np.float64]

# How a mode combines the channels. A constant added to both images, as the 16 of the luma of YCbCr, enters the means.
_GREY_WEIGHTS = {
    "gray": GREY_WEIGHTS_10000 / 10_000,
    "mean": np.full(3, 1 / 3),
    "ycbcr": np.array([65.481, 128.553, 24.966]) / 255,
}
_YCBCR_BLACK = 16.0
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_MAX_VALUES_PER_CHUNK = 4_000_000  # bounds memory at about 200 MB


def ssim_window(mode: SsimMode) -> int:
    """The side of the window in pixels; smaller images have no SSIM."""
    return 7 if mode.endswith("7") else 11


def ssim(plain: Images, other: Images, mode: SsimMode = "rgb7") -> Floats:
    """Mean structural similarity of each image, float64 [N] in -1..1; equal to scikit-image's within 1e-6.

    plain, other: uint8 [N, H, W, 3]. Modes that end with 7 use a uniform 7x7 window and the sample covariance,
    those that end with gauss11 a Gaussian 11x11 window (sigma 1.5) and the population covariance (Wang et al. 2004).
    `rgb` averages the SSIM of the channels; `gray` compares the luma of Rec. 709, `mean` the mean of the channels,
    `ycbcr` the luma of Rec. 601 in 16..235. The range is 255 in every mode. Raises ValueError if an image is smaller
    than the window.
    """
    check_pair(plain, other)
    if mode not in SSIM_MODES:
        raise ValueError(f"mode must be one of {', '.join(SSIM_MODES)}; got {mode!r}")
    window = ssim_window(mode)
    if min(plain.shape[1:3]) < window:
        raise ValueError(f"{mode} needs images of at least {window}x{window}; got {plain.shape[2]}x{plain.shape[1]}")
    if mode == "rgb7":
        from unveil.models.core import numba_kernels  # imported late: the API imports this module and needs no compiler

        if numba_kernels.ssim7 is None:
            return _ssim_in_chunks(plain, other, mode)
        values = np.empty(len(plain))
        numba_kernels.ssim7(np.ascontiguousarray(plain), np.ascontiguousarray(other), values)
        return values
    return _ssim_in_chunks(plain, other, mode)


def _ssim_in_chunks(plain: Images, other: Images, mode: SsimMode) -> Floats:
    step = max(1, _MAX_VALUES_PER_CHUNK // int(np.prod(plain.shape[1:])))
    chunks = [_ssim(plain[i : i + step], other[i : i + step], mode) for i in range(0, len(plain), step)]
    return np.concatenate(chunks) if chunks else np.zeros(0)


def _ssim(plain: Images, other: Images, mode: SsimMode) -> Floats:
    x: Any
    y: Any
    if mode.startswith("rgb"):
        # Sums of 8-bit values are exact in int32, also after a cumulative sum has wrapped around.
        x, y = (a.astype(np.int32 if mode == "rgb7" else np.float64) for a in (plain, other))
    else:
        kind = mode.removesuffix("7").removesuffix("-gauss11")
        black = _YCBCR_BLACK if kind == "ycbcr" else 0.0
        x, y = (a @ _GREY_WEIGHTS[kind] + black for a in (plain, other))
    mean: Callable[[npt.NDArray[Any]], Floats] = _mean7 if mode.endswith("7") else _gauss11
    bessel = 49 / 48 if mode.endswith("7") else 1.0
    mx, my = mean(x), mean(y)
    both = mean(x * x + y * y) - mx * mx - my * my
    cross = mean(x * y) - mx * my
    numerator = (2 * mx * my + _C1) * (2 * bessel * cross + _C2)
    denominator = (mx * mx + my * my + _C1) * (bessel * both + _C2)
    values = numerator / denominator
    return values.mean(axis=tuple(range(1, values.ndim)), dtype=np.float64)


def _mean7(a: npt.NDArray[Any]) -> Floats:
    """The mean of every full 7x7 window over axes 1 and 2."""
    for axis in (1, 2):
        padding = [(0, 0)] * a.ndim
        padding[axis] = (1, 0)
        total = np.pad(np.cumsum(a, axis=axis, dtype=a.dtype), padding)
        size = total.shape[axis]
        a = total.take(range(7, size), axis=axis) - total.take(range(size - 7), axis=axis)
    return a / 49.0


def _gauss11(a: npt.NDArray[Any]) -> Floats:
    from scipy.ndimage import gaussian_filter1d

    for axis in (1, 2):
        a = gaussian_filter1d(a, 1.5, axis=axis, truncate=3.5)
    return a[:, 5:-5, 5:-5]
