"""Detects the statistics of natural images: a steep power spectrum and correlated neighbors.

A ciphertext should have neither. White noise has a flat spectrum and a neighbor correlation of 0; the power of
photographs falls with about the square of the frequency, and their neighbors correlate by 0.8 and more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images, check_images
from unveil.models.metrics.match_features import luma

NATURAL_NEIGHBORS = 0.6
NATURAL_SLOPE = -1.0
_CHUNK = 64
_MIN_SIDE = 8  # pixels; smaller images have too few frequencies for a slope


@dataclass(frozen=True)
class Naturalness:
    """By image: correlation of neighboring grey values, slope of log power over log frequency; float64 [N] each."""

    neighbors: npt.NDArray[np.float64]
    slope: npt.NDArray[np.float64]

    @property
    def looks_natural(self) -> npt.NDArray[np.bool_]:
        return (self.neighbors >= NATURAL_NEIGHBORS) & (self.slope <= NATURAL_SLOPE)


def naturalness(images: Images) -> Naturalness:
    """Statistics of uint8 images [N, H, W, 3]. Flat images and those under 8 pixels a side have a slope of 0."""
    check_images(images)
    parts = [_statistics(luma(images[i : i + _CHUNK])) for i in range(0, len(images), _CHUNK)]
    if not parts:
        return Naturalness(np.zeros(0), np.zeros(0))
    neighbors, slope = (np.concatenate(values) for values in zip(*parts, strict=True))
    return Naturalness(neighbors, slope)


def _statistics(grey: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    count, height, width = grey.shape
    if min(height, width) < _MIN_SIDE:
        return np.zeros(count), np.zeros(count)
    centered = grey.astype(np.float64) - grey.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    right = _correlation(centered[:, :, :-1], centered[:, :, 1:])
    down = _correlation(centered[:, :-1], centered[:, 1:])
    return (right + down) / 2, _slope(centered)


def _correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    product = (a * b).sum(axis=(1, 2))
    norm = np.sqrt((a**2).sum(axis=(1, 2)) * (b**2).sum(axis=(1, 2)))
    return np.divide(product, norm, out=np.zeros_like(product), where=norm > 0)


def _slope(centered: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Least squares through the mean log power of rings from 2 cycles an image to half the sampling rate."""
    from scipy.fft import rfft2

    height, width = centered.shape[1:]
    window = np.hanning(height)[:, None] * np.hanning(width)[None, :]
    power = np.abs(rfft2(centered * window)) ** 2
    fy, fx = np.meshgrid(np.fft.fftfreq(height), np.fft.rfftfreq(width), indexing="ij")
    radius = np.hypot(fy, fx)
    edges = np.geomspace(2 / min(height, width), 0.5, 9)
    ring = np.asarray(np.searchsorted(edges, radius, side="right"))
    inside = (ring > 0) & (ring < len(edges))
    cells = (ring[inside][:, None] == np.arange(1, len(edges))).astype(np.float64)
    sizes = np.asarray(cells.sum(axis=0))
    used = sizes > 0
    means = power[:, inside] @ cells[:, used] / sizes[used]
    x = np.log((edges[:-1] * edges[1:])[used]) / 2
    x -= x.mean()
    flat = means.max(axis=1) <= 0
    logs = np.log(np.maximum(means, 1e-12))
    slope = (logs - logs.mean(axis=1, keepdims=True)) @ x / (x @ x)
    return np.where(flat, 0.0, slope)
