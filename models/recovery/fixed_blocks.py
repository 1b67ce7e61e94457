"""Blocks that stay in place and whose values one map permutes or inverts, read from ciphertexts alone [M].

`value_map` finds the map of the values. Blocks that stay in place show how a block is turned: their borders continue
in the next block. The inverse is exact up to one inversion and channel order of the image.
"""

from __future__ import annotations

import numpy as np

from unveil.models.core.blocks import to_blocks
from unveil.models.core.images import Images
from unveil.models.core.run_context import OnStep
from unveil.models.core.structure import BlockMap
from unveil.models.recovery.pixel_order import MAX_BLOCKS, Floats
from unveil.models.recovery.value_map import recover_value_map
from unveil.models.schemes.block_inverse import SYMMETRIES, apply_symmetry
from unveil.models.schemes.value_inverse import ValueInverse


def invert_fixed_blocks(
    ciphertexts: Images, structure: BlockMap, seed: int = 0, on_step: OnStep = lambda: None
) -> ValueInverse:
    """The inverse of the scheme from ciphertexts uint8 [N, H, W, 3], up to one inversion and one channel order.

    Images of a single row or column of blocks may come out mirrored. Raises ValueError for constant ciphertexts.
    """
    side = structure.side
    rows, columns = ciphertexts.shape[1] // side, ciphertexts.shape[2] // side
    blocks = to_blocks(ciphertexts[: max(1, MAX_BLOCKS // (rows * columns))], side).reshape(-1, 3 * side**2)
    values, inverted = recover_value_map(blocks, structure, seed, on_step, (rows, columns))
    if structure.units_move:
        upright = (blocks ^ (inverted * np.uint8(255)))[:, values]
        grey = upright.mean(-1, dtype=np.float32).reshape(-1, rows, columns, side, side)
        values = apply_symmetry(values, min(range(SYMMETRIES), key=lambda symmetry: _border_contrast(grey, symmetry)))
    return ValueInverse(side, np.arange(rows * columns).reshape(rows, columns), values, inverted[values])


def _border_contrast(grey: Floats, symmetry: int) -> float:
    """The mean contrast across the borders of blocks [N, R, C, P, P] that are turned by `symmetry`."""
    turned = apply_symmetry(grey[..., None], symmetry)[..., 0]
    across = np.abs(turned[:, :, 1:, :, 0] - turned[:, :, :-1, :, -1])
    down = np.abs(turned[:, 1:, :, 0] - turned[:, :-1, :, -1])
    return float(across.sum() + down.sum())
