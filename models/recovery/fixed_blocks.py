"""Blocks that stay in place and whose values one map permutes or inverts, read from ciphertexts alone [M].

Inversions follow from correlations, places from `pixel_order`. Blocks that stay in place show how a block is turned:
their borders continue in the next block. The reading is exact up to one inversion and channel order of the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images
from unveil.models.core.run_context import OnStep
from unveil.models.core.structure import BlockMap
from unveil.models.recovery.pixel_order import MAX_BLOCKS, Floats, recover_value_places
from unveil.models.recovery.value_inversions import find_inversions
from unveil.models.schemes.block_reading import SYMMETRIES, apply_symmetry, to_blocks
from unveil.models.schemes.value_reading import ValueReading

_STEP_NOISE = 100.0  # grey levels squared
_WRONG_ENTRY_PROBABILITY = 0.01  # of a recovered inversion


def read_fixed_blocks(
    ciphertexts: Images, structure: BlockMap, seed: int = 0, on_step: OnStep = lambda: None
) -> ValueReading:
    """The reading of ciphertexts uint8 [N, H, W, 3], up to one inversion and one channel order.

    Images of a single row or column of blocks may come out mirrored. Raises ValueError for constant ciphertexts.
    """
    side = structure.side
    rows, columns = ciphertexts.shape[1] // side, ciphertexts.shape[2] // side
    blocks = to_blocks(ciphertexts[: max(1, MAX_BLOCKS // (rows * columns))], side).reshape(-1, 3 * side**2)
    if not len(blocks) or (blocks == blocks[:1]).all():
        raise ValueError("ciphertexts must differ from block to block; all of their blocks are equal")
    inverted = np.zeros(3 * side**2, np.bool_)
    if structure.inverts:
        inverted = find_inversions(blocks) if structure.units_move else _find_inversions_in_place(blocks)
    values = np.arange(3 * side**2).reshape(side, side, 3)
    if structure.units_move:
        blocks = blocks ^ (inverted * np.uint8(255))
        values = np.argsort(recover_value_places(blocks, side, seed, on_step)).reshape(side, side, 3)
        grey = blocks[:, values].mean(-1, dtype=np.float32).reshape(-1, rows, columns, side, side)
        values = apply_symmetry(values, min(range(SYMMETRIES), key=lambda symmetry: _border_contrast(grey, symmetry)))
    return ValueReading(side, np.arange(rows * columns).reshape(rows, columns), values, inverted[values])


def _find_inversions_in_place(blocks: Images) -> npt.NDArray[np.bool_]:
    """Whether each value of blocks uint8 [N, D] that did not move is inverted, up to one inversion of all.

    Each channel alone, because channels may differ in brightness from object to object; at edges they hardly ever do,
    so that the contrasts of neighbouring pixels show which channels are inverted relative to the others.
    """
    inverted = np.stack([find_inversions(blocks[:, channel::3]) for channel in range(3)], axis=1)
    side = math.isqrt(len(inverted))
    values = blocks.reshape(len(blocks), side, side, 3).astype(np.float32)
    values = values * np.where(inverted, -1, 1).astype(np.float32).reshape(side, side, 3)
    values += 255 * inverted.reshape(side, side, 3)
    steps = np.concatenate([np.diff(values, axis=axis).reshape(-1, 3) for axis in (1, 2)])
    steps /= np.sqrt(_STEP_NOISE + (steps**2).sum(1, keepdims=True))  # limits the weight of a single strong edge
    leading = np.linalg.eigh((steps.T @ steps).astype(np.float64))[1][:, -1]
    is_inverted: npt.NDArray[np.bool_] = (inverted ^ (leading < 0)).ravel()
    return is_inverted


def _border_contrast(grey: Floats, symmetry: int) -> float:
    """The mean contrast across the borders of blocks [N, R, C, P, P] that are turned by `symmetry`."""
    turned = apply_symmetry(grey[..., None], symmetry)[..., 0]
    across = np.abs(turned[:, :, 1:, :, 0] - turned[:, :, :-1, :, -1])
    down = np.abs(turned[:, 1:, :, 0] - turned[:, :-1, :, -1])
    return float(across.sum() + down.sum())


def transform_evidence(
    structure: BlockMap, reading: ValueReading, violations: Callable[[ValueReading], int]
) -> npt.NDArray[np.float64]:
    """Log-likelihoods [12] of the transforms 6 * negative + order of a reading.

    Values that do not move keep their channels, and no scheme inverts values without declaring it. violations: counts
    in how many entries a reading breaks a rule of the scheme.
    """
    evidence = np.zeros(12)
    for element in range(12):
        order, negative = element % 6, element >= 6
        if (order and not structure.units_move) or (negative and not structure.inverts):
            evidence[element] = -np.inf
        else:
            broken = violations(reading.transform(0, order, negative=negative))
            evidence[element] = broken * np.log(_WRONG_ENTRY_PROBABILITY)
    return evidence
