"""Compiled inner loops (numba), each equal to a plain NumPy path beside its caller; None where numba is missing.

Single-threaded on purpose: workers are processes, one a core, and threads do not survive a fork.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def _compiled(function: Callable[..., Any]) -> Any:
    try:
        from numba import njit
    except ImportError:
        return None
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract"}}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # nowhere to keep the compiled code, as in a read-only container
        return njit(**options)(function)


def _shuffle_nibbles(images: Any, offsets: Any, shifts: Any, flips: Any, out: Any) -> None:
    """Tanaka's block cipher. images, out: uint8 [N, H, 3 * W]; for output nibble i of a block (lower ones first):
    offsets[i]: row * 3 * W + byte of its input in the block; shifts[i]: 0 or 4; flips[j]: the mask of output byte j.
    """
    count, height, pitch = images.shape
    places = np.empty(48, np.int64)
    for j in range(48):
        places[j] = (j // 12) * pitch + j % 12
    for n in range(count):
        flat, result = images[n].reshape(-1), out[n].reshape(-1)
        for top in range(0, height, 4):
            for left in range(0, pitch, 12):
                base = top * pitch + left
                for j in range(48):
                    lower = flat[base + offsets[j]] >> shifts[j] & 15
                    upper = flat[base + offsets[48 + j]] >> shifts[48 + j] & 15
                    result[base + places[j]] = (upper << 4 | lower) ^ flips[j]


def _apply_elements(images: Any, codes: Any, source: Any, flips: Any, out: Any) -> None:
    """Pixel-wise encryption under a map for each image. images, out: uint8 [N, P, 3]; codes: uint8 [N, P];
    channel c of an output pixel is channel source[code, c] of the input pixel, XOR flips[code, c].
    """
    for n in range(images.shape[0]):
        for p in range(images.shape[1]):
            code = codes[n, p]
            for c in range(3):
                out[n, p, c] = images[n, p, source[code, c]] ^ flips[code, c]


def _ssim7(x: Any, y: Any, out: Any) -> None:
    """Mean SSIM of each image, uniform 7x7, sample covariance. x, y: uint8 [N, H, W, 3]; out: float64 [N].

    Sums down the columns slide from row to row; sums along a row are seven of them, a pixel (3 values) apart.
    """
    count, height, width, _ = x.shape
    pitch, inner = 3 * width, 3 * (width - 6)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    sx, sy = np.empty(pitch, np.int32), np.empty(pitch, np.int32)
    sq, sxy = np.empty(pitch, np.int32), np.empty(pitch, np.int32)
    for n in range(count):
        a, b = x[n].reshape(height, pitch), y[n].reshape(height, pitch)
        sx[:], sy[:], sq[:], sxy[:] = 0, 0, 0, 0
        total = 0.0
        for row in range(height):
            for j in range(pitch):
                p, q = np.int32(a[row, j]), np.int32(b[row, j])
                sx[j] += p
                sy[j] += q
                sq[j] += p * p + q * q
                sxy[j] += p * q
            if row < 6:
                continue
            for j in range(inner):
                bx = sx[j] + sx[j + 3] + sx[j + 6] + sx[j + 9] + sx[j + 12] + sx[j + 15] + sx[j + 18]
                by = sy[j] + sy[j + 3] + sy[j + 6] + sy[j + 9] + sy[j + 12] + sy[j + 15] + sy[j + 18]
                bq = sq[j] + sq[j + 3] + sq[j + 6] + sq[j + 9] + sq[j + 12] + sq[j + 15] + sq[j + 18]
                bxy = sxy[j] + sxy[j + 3] + sxy[j + 6] + sxy[j + 9] + sxy[j + 12] + sxy[j + 15] + sxy[j + 18]
                mx, my = bx / 49.0, by / 49.0
                both = mx * mx + my * my
                cross = mx * my
                numerator = (2 * cross + c1) * (2 * (bxy / 49.0 - cross) * (49 / 48) + c2)
                total += numerator / ((both + c1) * ((bq / 49.0 - both) * (49 / 48) + c2))
            first = row - 6
            for j in range(pitch):
                p, q = np.int32(a[first, j]), np.int32(b[first, j])
                sx[j] -= p
                sy[j] -= q
                sq[j] -= p * p + q * q
                sxy[j] -= p * q
        out[n] = total / ((height - 6) * inner)


apply_elements = _compiled(_apply_elements)
shuffle_nibbles = _compiled(_shuffle_nibbles)
ssim7 = _compiled(_ssim7)
