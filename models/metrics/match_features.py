"""Image features for matching: averages, sorted blocks, histograms and spectra, each ready for a matrix product.

Every function maps uint8 images [N, H, W, 3] to float32 [N, V, D]: V variants of the image (rotations, mirrors,
negatives) of D values each. `models.metrics.matching` compares one variant of a query with every variant of the
gallery.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images

Features = npt.NDArray[np.float32]

FINE_GRID = 24
COARSE_GRID = 12
SPECTRUM_GRID = 48
BLOCK_SIZES = (4, 8, 16)

_LUMA = np.array([0.2125, 0.7154, 0.0721], np.float32)
_BLOCK_QUANTILES = 64  # values kept of each sorted block statistic
_JOINT_LEVELS = 4  # of each channel in the joint color histogram
_MARGINAL_LEVELS = 16
_ORIENTATIONS = 16
_ANGLES = 12  # sectors of a half turn in the power spectrum
_RADII = 10


def grid_average(values: npt.NDArray[np.floating], rows: int, columns: int) -> npt.NDArray[np.floating]:
    """Mean over a grid of cells: [N, H, W, ...] -> [N, rows, columns, ...], at most one cell a pixel."""
    for axis, cells in ((1, rows), (2, columns)):
        size = values.shape[axis]
        if cells >= size:
            continue
        if size % cells == 0:  # three times as fast as the general form
            width, moved = size // cells, np.moveaxis(values, axis, 0)
            total = moved[0::width].copy()
            for offset in range(1, width):
                total += moved[offset::width]
            values = np.moveaxis(total / values.dtype.type(width), 0, axis)
            continue
        edges = np.linspace(0, size, cells + 1).round().astype(np.intp)
        widths = np.diff(edges).astype(values.dtype)
        shape = [1] * values.ndim
        shape[axis] = len(widths)
        values = np.add.reduceat(values, edges[:-1], axis=axis) / widths.reshape(shape)
    return values


def luma(images: Images) -> npt.NDArray[np.float32]:
    """Grey images on the scale 0..255, float32 [N, H, W]."""
    return images.astype(np.float32) @ _LUMA


def dihedral(grids: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """The eight rotations and mirrors of square images: [N, S, S] -> [N, 8, S, S]."""
    mirrored = grids[:, :, ::-1]
    return np.stack([np.rot90(g, k, (1, 2)) for g in (grids, mirrored) for k in range(4)], axis=1)


def square_grid(grey: npt.NDArray[np.float32], side: int) -> npt.NDArray[np.float32]:
    """Grey averages on a square grid: [N, H, W] -> [N, S, S], S = side or the shorter side of the image."""
    side = min(side, *grey.shape[1:])
    return grid_average(grey, side, side).astype(np.float32)


def average_features(grey: npt.NDArray[np.float32], factor: int) -> Features:
    """Averages over `factor` x `factor` pixels at their places, one variant."""
    height, width = (max(1, size // factor) for size in grey.shape[1:])
    cut = grey[:, : height * factor, : width * factor] if min(grey.shape[1:]) >= factor else grey
    return grid_average(cut, height, width).reshape(len(grey), 1, -1).astype(np.float32)


def dihedral_features(grey: npt.NDArray[np.float32], side: int) -> Features:
    """Averages on a square grid in the eight rotations and mirrors."""
    return dihedral(square_grid(grey, side)).reshape(len(grey), 8, -1).astype(np.float32)


def block_features(images: Images, grey: npt.NDArray[np.float32]) -> dict[int, Features]:
    """Sorted block statistics by block size, two variants (the image, its negative): the same for any block order.

    Means of the three channels and the standard deviation of the grey values of each block, each sorted on its own and
    reduced to 64 means of consecutive values. A size larger than the image is cut to the image.
    """
    found = {}
    sums = np.concatenate([images.astype(np.float32), grey[..., None], (grey**2)[..., None]], axis=3)
    done = 1
    for size in BLOCK_SIZES:
        while done < size and min(sums.shape[1:3]) > 1:
            rows, columns = sums.shape[1] // 2 * 2, sums.shape[2] // 2 * 2
            halves = sums[:, 0:rows:2] + sums[:, 1:rows:2]
            sums = halves[:, :, 0:columns:2] + halves[:, :, 1:columns:2]
            done *= 2
        means = (sums / done**2).reshape(len(images), -1, 5)
        means[..., 4] = np.sqrt(np.maximum(means[..., 4] - means[..., 3] ** 2, 0))
        ordered = np.sort(means[..., (0, 1, 2, 4)], axis=1)
        reduced = grid_average(ordered, _BLOCK_QUANTILES, 4)
        negative = reduced.copy()
        negative[..., :3] = 255 - reduced[:, ::-1, :3]
        found[size] = np.stack([reduced, negative], axis=1).reshape(len(images), 2, -1).astype(np.float32)
    return found


def color_features(images: Images) -> Features:
    """Square roots of the joint and the marginal colour histograms, two variants (the image, its negative)."""
    count, levels = len(images), _MARGINAL_LEVELS
    small = images // (256 // levels)
    code = (small[..., 0].astype(np.int32) * levels + small[..., 1]) * levels + small[..., 2]
    counts = _histogram(code.reshape(count, -1), levels**3).reshape(count, levels, levels, levels)
    marginals = np.stack([counts.sum(axis=tuple({1, 2, 3} - {axis})) for axis in (1, 2, 3)], axis=1)
    step = levels // _JOINT_LEVELS
    joint = counts.reshape(count, _JOINT_LEVELS, step, _JOINT_LEVELS, step, _JOINT_LEVELS, step).sum(axis=(2, 4, 6))
    variants = []
    for flip in (slice(None), slice(None, None, -1)):
        parts = [joint[:, flip, flip, flip].reshape(count, -1), marginals[:, :, flip].reshape(count, -1)]
        variants.append(np.sqrt(np.concatenate(parts, axis=1)))
    return np.stack(variants, axis=1).astype(np.float32)


def _histogram(
    codes: npt.NDArray[np.integer], bins: int, weights: npt.NDArray[np.floating] | None = None
) -> npt.NDArray[np.float32]:
    """Shares of each code in each row: [N, P] -> [N, bins]."""
    count = len(codes)
    offsets = codes + (bins * np.arange(count, dtype=np.int64))[:, None]
    flat = None if weights is None else weights.ravel()
    totals = np.bincount(offsets.ravel(), flat, count * bins).reshape(count, bins)
    sums = totals.sum(axis=1, keepdims=True)
    return (totals / np.where(sums > 0, sums, 1)).astype(np.float32)


def gradient_features(grey: npt.NDArray[np.float32]) -> Features:
    """Square roots of the histograms of gradient orientation at two scales, four variants: quarter turn, mirror.

    Orientations are taken modulo a half turn, so a half turn and a negative leave the histogram as it is.
    """
    parts = [_orientation_histogram(square_grid(grey, side)) for side in (SPECTRUM_GRID, FINE_GRID)]
    histograms = np.stack(parts, axis=1)  # [N, 2, bins]
    turned = np.roll(histograms, _ORIENTATIONS // 2, axis=2)
    variants = [v for h in (histograms, turned) for v in (h, np.roll(h[..., ::-1], 1, axis=2))]
    return np.sqrt(np.stack(variants, axis=1)).reshape(len(grey), 4, -1).astype(np.float32)


def _orientation_histogram(grids: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    if min(grids.shape[1:]) < 3:
        return np.zeros((len(grids), _ORIENTATIONS), np.float32)
    down = grids[:, 2:, 1:-1] - grids[:, :-2, 1:-1]
    right = grids[:, 1:-1, 2:] - grids[:, 1:-1, :-2]
    angle = np.arctan2(down, right).reshape(len(grids), -1)
    # bins are centred on 0, so that a mirror maps bins to bins
    code = np.rint(angle * (_ORIENTATIONS / np.pi)).astype(np.intp) % _ORIENTATIONS
    return _histogram(code, _ORIENTATIONS, np.hypot(down, right).reshape(len(grids), -1))


def spectrum_features(grey: npt.NDArray[np.float32]) -> Features:
    """Logarithmic power spectrum in polar cells, four variants: quarter turn, mirror. The same for any cyclic shift."""
    from scipy.fft import rfft2

    grids = square_grid(grey, SPECTRUM_GRID)
    count, side = grids.shape[:2]
    spectrum = rfft2(grids - grids.mean(axis=(1, 2), keepdims=True))
    power = spectrum.real**2 + spectrum.imag**2
    fy, fx = np.meshgrid(np.fft.fftfreq(side) * side, np.arange(side // 2 + 1), indexing="ij")
    radius = np.hypot(fy, fx)
    # of the column fx = 0 both halves are there: one of them would count twice
    inside = (radius >= 1) & (radius <= side / 2) & ((fx > 0) | (fy > 0))
    edges = np.geomspace(1, side / 2 + 0.01, _RADII + 1)
    ring = np.clip(np.searchsorted(edges, radius[inside], side="right") - 1, 0, _RADII - 1)
    sector = np.rint(np.arctan2(fy[inside], fx[inside]) * (_ANGLES / np.pi)).astype(np.intp) % _ANGLES
    cells = np.zeros((int(inside.sum()), _RADII * _ANGLES), np.float32)
    cells[np.arange(len(cells)), ring * _ANGLES + sector] = 1
    sizes = cells.sum(axis=0)
    sums = power[:, inside] @ cells
    polar = np.log(sums / np.where(sizes > 0, sizes, 1) + 1).reshape(count, _RADII, _ANGLES)
    turned = np.roll(polar, _ANGLES // 2, axis=2)
    variants = [v for p in (polar, turned) for v in (p, np.roll(p[..., ::-1], 1, axis=2))]
    return np.stack(variants, axis=1).reshape(count, 4, -1).astype(np.float32)
