"""The one map that permutes or inverts the values of all blocks, from ciphertexts alone [M].

All blocks of all images share the map, so that its inversions and places follow from second-order statistics. The map
is exact up to one inversion of the block, and where values move up to one rotation, mirroring and channel order.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images
from unveil.models.core.run_context import OnStep
from unveil.models.core.structure import BlockMap
from unveil.models.recovery.pixel_order import recover_value_places
from unveil.models.recovery.value_inversions import find_inversions, find_inversions_in_place
from unveil.models.schemes.block_inverse import SYMMETRIES, Integers
from unveil.models.schemes.value_inverse import ValueInverse

_STEP_NOISE = 100.0  # grey levels squared
_WRONG_ENTRY_PROBABILITY = 0.01  # of a recovered inversion


def recover_value_map(
    blocks: Images, structure: BlockMap, seed: int, on_step: OnStep, grid: tuple[int, int] | None = None
) -> tuple[Integers, npt.NDArray[np.bool_]]:
    """Blocks uint8 [N, 3 * P * P] -> the `values` of a ValueInverse [P, P, 3], and whether each value of a ciphertext
    block is inverted, bool [3 * P * P].

    grid: the rows and columns of the blocks of an image, if blocks stay in place.
    Raises ValueError for no blocks and for blocks that are all equal.
    """
    if not len(blocks) or (blocks == blocks[:1]).all():
        raise ValueError("ciphertexts must differ from block to block; all of their blocks are equal")
    side, inverted = structure.side, np.zeros(blocks.shape[1], np.bool_)
    if structure.inverts:
        inverted = find_inversions(blocks) if structure.units_move else _find_inversions_in_place(blocks)
    if not structure.units_move:
        return np.arange(blocks.shape[1]).reshape(side, side, 3), inverted
    places = recover_value_places(blocks ^ (inverted * np.uint8(255)), side, seed, on_step, grid)
    return np.argsort(places).reshape(side, side, 3), inverted


def _find_inversions_in_place(blocks: Images) -> npt.NDArray[np.bool_]:
    """Whether each value of blocks uint8 [N, D] that did not move is inverted, bool [D], up to one inversion of all.

    Each channel alone, because channels may differ in brightness from object to object; at edges they hardly ever do,
    so that the contrasts of neighbouring pixels show which channels are inverted relative to the others.
    """
    side = math.isqrt(blocks.shape[1] // 3)
    split = blocks.reshape(len(blocks), side, side, 3)
    inverted = np.stack([find_inversions_in_place(split[..., channel]) for channel in range(3)], axis=2)
    values = (split ^ (inverted * np.uint8(255))).astype(np.float32)
    steps = np.concatenate([np.diff(values, axis=axis).reshape(-1, 3) for axis in (1, 2)])
    steps /= np.sqrt(_STEP_NOISE + (steps**2).sum(1, keepdims=True))  # limits the weight of a single strong edge
    leading = np.linalg.eigh((steps.T @ steps).astype(np.float64))[1][:, -1]
    is_inverted: npt.NDArray[np.bool_] = (inverted ^ (leading < 0)).ravel()
    return is_inverted


def transform_evidence(
    structure: BlockMap, inverse: ValueInverse, violations: Callable[[ValueInverse], int]
) -> npt.NDArray[np.float64]:
    """Log-likelihoods [8, 12] of the symmetries and of the colour transforms 6 * negative + order of an inverse.

    Values that do not move keep their channels and their place, blocks that do not move show how they are turned, and
    no scheme inverts values without declaring it. violations: counts in how many entries an inverse breaks a rule of
    the scheme.
    """
    evidence = np.full((SYMMETRIES, 12), -np.inf)
    for symmetry in range(SYMMETRIES if structure.units_move and structure.blocks_move else 1):
        for order in range(6 if structure.units_move else 1):
            for negative in (False, True) if structure.inverts else (False,):
                transformed = inverse.transform(symmetry, order, negative=negative)
                if transformed.blocks.shape == inverse.blocks.shape:
                    broken = violations(transformed)
                    evidence[symmetry, 6 * negative + order] = broken * np.log(_WRONG_ENTRY_PROBABILITY)
    return evidence
