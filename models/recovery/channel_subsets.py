"""Images from a subset of their frequency channels: which subset it is, and least squares.

A channel is a linear map of the image, and nine of them hold nine values for each pixel and colour. A wrong subset or
order therefore contradicts itself, and the right one determines the image but for the mean of each colour, which no
channel without DC holds, and for a few smooth patterns along rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import splu

from unveil.models.core.frequency_channels import SIDE, TAPS, AxisMap, Floats, axis_map, planes_to_rgb
from unveil.models.core.images import Images, quantise
from unveil.models.core.structure import ChannelSubset

_PATCH = 8  # blocks a side of the patches that show which key fits
_PATCHES_A_SIDE = 3
_MIN_SINGULAR = 1e-6  # of a patch, relative to the largest: below, values are rounding errors
_GRADIENT_VARIANCE = 200.0  # of natural images, in squared grey levels
_MIN_REGULARISATION = 1e-9
_NULL_SPACE = 1e-13  # keeps the matrix regular where neither channels nor differences hold a pattern
_EXTREME_PERCENT = 0.5  # of the values, which may lie beyond 0..255


@dataclass(frozen=True)
class Inverted:
    """images: uint8 [N, H, W, 3]. subsets, orders: int64 [N], of the key that fits best.

    unexplained: float64 [N], the share of the energy of a ciphertext that no image explains under this key.
    """

    images: Images
    subsets: npt.NDArray[np.int64]
    orders: npt.NDArray[np.int64]
    unexplained: npt.NDArray[np.float64]


def invert(
    ciphertexts: Floats, structure: ChannelSubset, on_step: Callable[[float], None] = lambda _: None
) -> Inverted:
    """Ciphertexts float32 [N, 3 n, H, W] under any keys -> the images. on_step: takes the fraction that is done."""
    count, _, height, width = ciphertexts.shape
    channels = ciphertexts.reshape(count, 3, len(structure.orders[0]), height, width)
    matrices = [_channel_matrix(subset, height, width) for subset in structure.subsets]
    residual, freedom = _residuals(channels, matrices, structure.orders, lambda done: on_step(done / 2))
    best = residual.reshape(count, -1).argmin(axis=1)
    subsets, orders = np.divmod(best, len(structure.orders))
    left = residual.reshape(count, -1)[np.arange(count), best]
    noise = left / np.maximum(1, freedom[subsets])
    weights = _round_weights(noise / _GRADIENT_VARIANCE)

    planes = np.empty((count, 3, height, width))
    groups = sorted(set(zip(subsets.tolist(), weights.tolist(), strict=True)))
    for done, (subset, weight) in enumerate(groups):
        on_step(0.5 + done / (2 * len(groups)))
        solver = _LeastSquares(matrices[subset], weight, height, width)
        for i in np.flatnonzero((subsets == subset) & (weights == weight)):
            planes[i] = solver.solve(channels[i][:, np.argsort(structure.orders[orders[i]])])
    energy = _patch_energy(channels)
    return Inverted(_to_images(planes), subsets, orders, left / np.maximum(energy, np.finfo(float).tiny))


def _round_weights(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """To powers of 1,000, so that many images share a matrix."""
    return np.asarray(10 ** (3 * np.round(np.log10(np.maximum(_MIN_REGULARISATION, weights)) / 3)))


def _channel_matrix(subset: Sequence[int], height: int, width: int) -> Any:
    """Sparse [n H W, H W]: the channels of a plane, one after the other."""
    rows, columns = axis_map(height), axis_map(width)
    return sparse.vstack(
        [sparse.kron(_axis_matrix(rows, c // SIDE), _axis_matrix(columns, c % SIDE)) for c in subset]
    ).tocsr()


def _axis_matrix(axis: AxisMap, frequency: int) -> Any:
    length = len(axis.index)
    places = (np.repeat(np.arange(length), TAPS), axis.index.ravel())
    return sparse.csr_matrix((axis.weights[frequency].ravel().astype(np.float64), places), shape=(length, length))


def _patches(height: int, width: int) -> list[npt.NDArray[np.int64]]:
    """The numbers of the blocks of each patch, spread over the image."""
    numbers = np.arange(height * width).reshape(height, width)
    tops, lefts = (
        np.unique(np.linspace(0, max(0, side - _PATCH), _PATCHES_A_SIDE).astype(int)) for side in (height, width)
    )
    return [numbers[top : top + _PATCH, left : left + _PATCH].ravel() for top in tops for left in lefts]


def _residuals(
    channels: Floats,
    matrices: Sequence[Any],
    orders: Sequence[Sequence[int]],
    on_step: Callable[[float], None],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The energy [N, subsets, orders] of the patches that no image explains, and its degrees of freedom [subsets]."""
    count, colours, number, height, width = channels.shape
    residual, freedom = np.zeros((count, len(matrices), len(orders))), np.zeros(len(matrices))
    flat = channels.reshape(count * colours, number, height * width)
    patches = [(blocks, flat[:, :, blocks].astype(np.float64)) for blocks in _patches(height, width)]
    for s, matrix in enumerate(matrices):
        on_step(s / len(matrices))
        for blocks, patch in patches:
            rows = matrix[(np.arange(number)[:, None] * height * width + blocks).ravel()]
            dense = rows[:, np.unique(rows.indices)].toarray()
            basis, singular, _ = np.linalg.svd(dense, full_matrices=False)
            basis = basis[:, singular > _MIN_SINGULAR * max(singular.max(initial=0), np.finfo(float).tiny)]
            freedom[s] += colours * (basis.shape[0] - basis.shape[1])
            for o, order in enumerate(orders):
                values = patch[:, np.argsort(order)].reshape(count * colours, len(basis))
                rest = values - (values @ basis) @ basis.T
                residual[:, s, o] += (rest**2).reshape(count, -1).sum(axis=1)
    return residual, freedom


def _patch_energy(channels: Floats) -> npt.NDArray[np.float64]:
    count, _, _, height, width = channels.shape
    flat = channels.reshape(count, -1, height * width)
    return np.asarray(
        sum((flat[:, :, blocks].astype(np.float64) ** 2).sum(axis=(1, 2)) for blocks in _patches(height, width))
    )


class _LeastSquares:
    """Planes with mean 0 whose channels are nearest, and whose differences are small, by `weight`."""

    def __init__(self, matrix: Any, weight: float, height: int, width: int) -> None:
        rows, columns = _squared_differences(height), _squared_differences(width)
        smoothness = sparse.kron(rows, sparse.identity(width)) + sparse.kron(sparse.identity(height), columns)
        normal = matrix.T @ matrix + weight * smoothness + _NULL_SPACE * sparse.identity(height * width)
        self._transposed = matrix.T
        # For a symmetric positive matrix; with the defaults, the factors have twice the values.
        self._factors = splu(
            normal.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
        )

    def solve(self, channels: Floats) -> npt.NDArray[np.float64]:
        """Channels [3, n, H, W] of one image -> planes [3, H, W]. One image at a time, which bounds the memory."""
        colours, _, height, width = channels.shape
        right = self._transposed @ channels.reshape(colours, -1).T.astype(np.float64)
        planes = self._factors.solve(right).T.reshape(colours, height, width)
        return np.asarray(planes - planes.mean(axis=(1, 2), keepdims=True))


def _squared_differences(length: int) -> Any:
    """The matrix of the sum of squared differences between neighbours on an axis."""
    degrees = np.zeros(length)
    degrees[1:] += 1
    degrees[:-1] += 1
    return sparse.diags_array([degrees, -np.ones(length - 1), -np.ones(length - 1)], offsets=[0, 1, -1])


def _to_images(planes: npt.NDArray[np.float64]) -> Images:
    """Images whose colours have the mean that puts their extremes at equal distances from black and white.

    An image with a colour that spans more than 0..255 loses contrast, so that it fits.
    """
    rgb = planes_to_rgb(planes)
    low, high = np.percentile(rgb, [_EXTREME_PERCENT, 100 - _EXTREME_PERCENT], axis=(1, 2))
    contrast = np.minimum(1, 255 / np.maximum(1, (high - low).max(axis=1)))[:, None, None, None]
    return quantise(contrast * (rgb - ((low + high) / 2)[:, None, None, :]) + 127.5)
