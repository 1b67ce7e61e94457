"""Predicts the values at the same places of every block from the values at the other places of the image.

The prediction is the best linear one (kriging) for a random field whose covariance falls exponentially with distance
and whose channels correlate, as those of natural images do.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_RANGE = 40.0  # pixels over which the covariance falls to 1 / e
_CHANNEL_CORRELATION = 0.9
_NOISE = 0.0005  # variance of a value that no other value predicts, against 1 in all
_MARGIN = 3  # pixels around a block from which its values are predicted
_IMAGES_AT_ONCE = 32  # the windows of an image hold about ten times its values


def interpolate(images: Floats, masked: Mask) -> Floats:
    """Images [N, H, W, 3] with the values at `masked` [P, P, 3] of every block replaced by predictions.

    H and W are multiples of P.
    """
    side, (height, width) = len(masked), images.shape[1:3]
    mask = np.tile(masked, (height // side, width // side, 1))
    result = images.copy()
    rows, columns = _windows(height, side), _windows(width, side)
    for (row_window, row_blocks), (column_window, column_blocks) in itertools.product(rows.items(), columns.items()):
        weights, clear = _weights(mask, row_blocks[0], column_blocks[0], row_window, column_window, side)
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            part = slice(start, start + _IMAGES_AT_ONCE)
            window = np.lib.stride_tricks.sliding_window_view(
                images[part], (sum(row_window) + side, sum(column_window) + side), axis=(1, 2)
            )[:, [y - row_window[0] for y in row_blocks]][:, :, [x - column_window[0] for x in column_blocks]]
            known = window.transpose(0, 1, 2, 4, 5, 3)[..., clear]  # [N, rows, columns, clear values of the window]
            predicted = known @ weights
            for (i, y), (j, x) in itertools.product(enumerate(row_blocks), enumerate(column_blocks)):
                result[part, y : y + side, x : x + side][:, masked] = predicted[:, i, j]
    return result


def _windows(length: int, side: int) -> dict[tuple[int, int], list[int]]:
    """By the margins (before, after) that the image leaves around a block, the starts of the blocks."""
    found: dict[tuple[int, int], list[int]] = {}
    for start in range(0, length, side):
        margins = min(_MARGIN, start), min(_MARGIN, length - start - side)
        found.setdefault(margins, []).append(start)
    return found


def _weights(
    mask: Mask, top: int, left: int, row_window: tuple[int, int], column_window: tuple[int, int], side: int
) -> tuple[Floats, Mask]:
    """The weights [clear values of the window, masked values of the block], and where the window is clear."""
    clear = ~mask[
        top - row_window[0] : top + side + row_window[1], left - column_window[0] : left + side + column_window[1]
    ]
    inside = np.zeros_like(clear)
    inside[row_window[0] : row_window[0] + side, column_window[0] : column_window[0] + side] = True
    known, wanted = np.argwhere(clear), np.argwhere(inside & ~clear)
    covariance = _covariance(known, known) + _NOISE * np.eye(len(known))
    # The weights of an unknown mean sum to 1.
    ones = np.ones((len(known), 1))
    solved = np.linalg.solve(covariance, np.concatenate([_covariance(known, wanted), ones], axis=1))
    weights, correction = solved[:, :-1], solved[:, -1:]
    weights = weights + correction * (1 - weights.sum(0)) / correction.sum()
    return weights.astype(np.float32), clear


def _covariance(first: npt.NDArray[np.intp], second: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    distance = np.sqrt(((first[:, None, :2] - second[None, :, :2]) ** 2).sum(-1))
    same_channel = first[:, None, 2] == second[None, :, 2]
    covariance: npt.NDArray[np.float64] = np.exp(-distance / _RANGE) * np.where(same_channel, 1, _CHANNEL_CORRELATION)
    return covariance
