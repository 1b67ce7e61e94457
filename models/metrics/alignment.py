"""Alignment by FFT: the highest correlation of two images over all shifts, rotations and mirrors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images
from unveil.models.metrics import match_features as features
from unveil.models.metrics.comparisons import FLAT_NORM

Spectra = npt.NDArray[np.complex64]
_CHUNK = 64  # images per step: bounds memory


def best_alignment(targets: Spectra, query: Spectra) -> npt.NDArray[np.float32]:
    """Highest |correlation| over shifts and variants: [M, 8, S, S // 2 + 1] with [S, S // 2 + 1] -> [M]."""
    from scipy.fft import irfft2

    side = targets.shape[2]
    return np.abs(irfft2(targets * np.conj(query), s=(side, side), overwrite_x=True)).max(axis=(1, 2, 3))


def grid_spectra(images: Images, *, variants: bool) -> Spectra:
    """Fourier transforms of unit-norm averages on a square grid: [n, 8 or 1, S, S // 2 + 1]; zero where flat."""
    from scipy.fft import rfft2

    parts: list[Spectra] = []
    for start in range(0, len(images), _CHUNK):
        grey = features.luma(images[start : start + _CHUNK])
        grids = features.square_grid(grey, features.FINE_GRID)
        grids = grids - grids.mean(axis=(1, 2), keepdims=True)
        norm = np.sqrt((grids**2).sum(axis=(1, 2), keepdims=True))
        grids /= np.where(norm > FLAT_NORM, norm, np.inf)
        parts.append(rfft2(features.dihedral(grids) if variants else grids[:, None]))
    return np.concatenate(parts)
