"""Frequency channels: the block DCT of an enlarged image, one 8x8 block for each pixel.

As in the published front ends of frequency-domain face recognition: Y, Cb and Cr are enlarged eightfold by bilinear
interpolation whose corners are those of the image, and cut into 8x8 blocks; channel 8 u + v holds coefficient (u, v) of
the orthonormal DCT of every block. The map is separable and each coefficient depends on 3x3 pixels, so the large
image is never computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images, quantise

Floats = npt.NDArray[np.float32]

SIDE = 8  # of a block, and the factor of the enlargement
CHANNELS = SIDE**2  # of each colour
RANGE = 1024.0  # of a coefficient, in either direction: an orthonormal transform of 64 values between -128 and 128
TAPS = 3  # pixels along an axis on which a coefficient depends

_YCBCR = np.array([(0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312)])  # of JPEG
_RGB = np.linalg.inv(_YCBCR)


@dataclass(frozen=True)
class AxisMap:
    """The map from the pixels of an axis of length L to the coefficients of its blocks.

    Coefficient u of block i is the sum of weights[u, i, k] * pixels[index[i, k]]. index: int64 [L, TAPS]. weights:
    float32 [SIDE, L, TAPS].
    """

    index: npt.NDArray[np.int64]
    weights: Floats


@lru_cache(maxsize=16)
def axis_map(length: int) -> AxisMap:
    places = np.arange(SIDE * length) * ((length - 1) / max(1, SIDE * length - 1))
    places = places.reshape(length, SIDE)  # of the samples of each block, in pixels
    starts = np.minimum(places[:, 0].astype(np.int64), max(0, length - TAPS))
    taps = starts[:, None] + np.arange(TAPS)
    interpolation = np.maximum(0, 1 - np.abs(places[:, :, None] - taps[:, None, :]))
    weights = np.einsum("us,isk->uik", _dct_matrix(), interpolation)
    return AxisMap(np.minimum(taps, length - 1), weights.astype(np.float32))


def _dct_matrix() -> npt.NDArray[np.float64]:
    frequencies, samples = np.arange(SIDE)[:, None], np.arange(SIDE)[None, :]
    scale = np.sqrt(np.where(frequencies == 0, 1, 2) / SIDE)
    return scale * np.cos((2 * samples + 1) * frequencies * np.pi / (2 * SIDE))


def to_planes(images: Images) -> Floats:
    """uint8 [N, H, W, 3] -> Y, Cb and Cr around 0, float32 [N, 3, H, W]."""
    planes = np.einsum("cd,nhwd->nchw", _YCBCR, images.astype(np.float64))
    planes[:, 0] -= 128
    return planes.astype(np.float32)


def from_planes(planes: npt.NDArray[np.floating]) -> Images:
    """The inverse of `to_planes`, rounded and clipped."""
    return quantise(planes_to_rgb(planes) + 128)


def planes_to_rgb(planes: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Y, Cb and Cr around 0, [N, 3, H, W] -> red, green and blue around 0, float64 [N, H, W, 3]."""
    return np.asarray(np.einsum("cd,ndhw->nhwc", _RGB, planes.astype(np.float64)))


def to_channels(planes: Floats, channels: Sequence[int]) -> Floats:
    """Planes float32 [N, 3, H, W] -> the given channels of each, float32 [N, 3, len(channels), H, W]."""
    rows, columns = axis_map(planes.shape[2]), axis_map(planes.shape[3])
    out = np.zeros((*planes.shape[:2], len(channels), *planes.shape[2:]), np.float32)
    for u in {channel // SIDE for channel in channels}:
        along_rows = np.zeros_like(planes)
        for k in range(TAPS):
            along_rows += planes[:, :, rows.index[:, k], :] * rows.weights[u, :, k, None]
        taps = [along_rows[..., columns.index[:, k]] for k in range(TAPS)]
        for place, channel in enumerate(channels):
            if channel // SIDE == u:
                for tap, weights in zip(taps, columns.weights[channel % SIDE].T, strict=True):
                    out[:, :, place] += tap * weights
    return out


def from_channels(channels: Floats) -> Floats:
    """All 64 channels of planes, float32 [N, 3, 64, H, W] -> the planes, float32 [N, 3, H, W].

    The blocks are transformed back, and the large image is reduced by bilinear interpolation, without a filter, to
    samples whose corners are its own: each lies in the block of its pixel.
    """
    count, colours, _, height, width = channels.shape
    blocks = channels.reshape(count, colours, SIDE, SIDE, height, width)
    rows, columns = _sample_weights(height), _sample_weights(width)
    along_rows = np.einsum("ncuvhw,uh->ncvhw", blocks, rows)
    return np.asarray(np.einsum("ncvhw,vw->nchw", along_rows, columns), np.float32)


@lru_cache(maxsize=16)
def _sample_weights(length: int) -> Floats:
    """Of each coefficient of block i in the sample at pixel i of an axis, float32 [SIDE, length]."""
    places = np.arange(length) * ((SIDE - 1) / max(1, length - 1))  # within the block
    first = np.minimum(places.astype(np.int64), SIDE - 2)
    share = places - first
    matrix = _dct_matrix()
    return ((1 - share) * matrix[:, first] + share * matrix[:, first + 1]).astype(np.float32)
