"""Visual information fidelity (VIF) in the pixel domain (Sheikh and Bovik 2006).

Of the hand-made metrics, VIF agrees best with what people recognize in encrypted images.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images, check_pair

Floats = npt.NDArray[np.float64]

MIN_SIDE = 41  # pixels: smaller images leave no full window at the fourth scale

_LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114])
_WINDOWS = (17, 9, 5, 3)  # sides of the Gaussian windows, from the finest to the coarsest scale
_NOISE_VARIANCE = 2.0  # of the visual system
_TINY = 1e-10
_MAX_VALUES_PER_CHUNK = 1_000_000  # bounds memory at about 100 MB


def vif(plain: Images, other: Images) -> Floats:
    """Information that `other` shares with `plain`, float64 [N]: 1 for the image itself, near 0 for an unrelated one.

    plain, other: uint8 [N, H, W, 3], compared by luma. Values above 1 are possible: more contrast without noise. A flat
    plain image holds no information: its value is 1 for an equal image and 0 for any other.
    Raises ValueError if a side is shorter than MIN_SIDE.
    """
    check_pair(plain, other)
    if min(plain.shape[1:3]) < MIN_SIDE:
        raise ValueError(f"VIF needs images of at least {MIN_SIDE}x{MIN_SIDE}; got {plain.shape[2]}x{plain.shape[1]}")
    step = max(1, _MAX_VALUES_PER_CHUNK // (plain.shape[1] * plain.shape[2]))
    chunks = [
        _shared_information(plain[i : i + step] @ _LUMA_WEIGHTS, other[i : i + step] @ _LUMA_WEIGHTS)
        for i in range(0, len(plain), step)
    ]
    return np.concatenate(chunks) if chunks else np.zeros(0)


def _shared_information(x: Floats, y: Floats) -> Floats:
    shared, total = np.zeros(len(x)), np.zeros(len(x))
    flat, equal = ((image == other).all(axis=(1, 2)) for image, other in ((x, x[:, :1, :1]), (x, y)))
    for window in _WINDOWS:
        if window != _WINDOWS[0]:
            x, y = _filter(x, window, 2), _filter(y, window, 2)
        mean_x, mean_y = _filter(x, window), _filter(y, window)
        var_x = np.maximum(_filter(x * x, window) - mean_x * mean_x, 0)
        var_y = np.maximum(_filter(y * y, window) - mean_y * mean_y, 0)
        covariance = _filter(x * y, window) - mean_x * mean_y
        gain = covariance / (var_x + _TINY)
        gain[(gain < 0) | (var_x < _TINY) | (var_y < _TINY)] = 0
        distortion = np.maximum(var_y - gain * covariance, _TINY)
        shared += np.log1p(gain * gain * var_x / (distortion + _NOISE_VARIANCE)).sum(axis=(1, 2))
        total += np.log1p(var_x / _NOISE_VARIANCE).sum(axis=(1, 2))
    return np.where(flat, equal, shared / np.where(flat, 1, total))


def _filter(images: Floats, window: int, step: int = 1) -> Floats:
    """Gaussian means of every full window of [N, H, W], of every second one with step 2."""
    rows, columns = (_band(side, window, step) for side in images.shape[1:])
    return np.asarray(rows @ images @ columns.T)


def _band(side: int, window: int, step: int) -> Floats:
    """The filter of one axis as a matrix: at these sides a matrix product is faster than a convolution."""
    offsets = np.arange(window) - window // 2
    weights = np.exp(-0.5 * (offsets / (window / 5)) ** 2)
    starts = np.arange(0, side - window + 1, step)
    band = np.zeros((len(starts), side))
    band[np.arange(len(starts))[:, None], starts[:, None] + np.arange(window)] = weights / weights.sum()
    return band
