"""Moved blocks whose values one map permutes or inverts, read from ciphertexts that share the key alone [M].

`value_map` finds the map of the values. The upright blocks then find their neighbours by the continuity of their
borders. The inverse is exact up to one inversion of the whole image, and where values move up to one rotation,
mirroring and channel order. Public statistics settle all but the mirror (`unveil.models.recovery.orientation`): nothing
tells an image from its mirror image.
"""

from __future__ import annotations

import numpy as np

from unveil.models.core.blocks import to_blocks
from unveil.models.core.images import Images
from unveil.models.core.run_context import OnStep
from unveil.models.core.structure import BlockMap
from unveil.models.recovery.block_layout import recover_block_order
from unveil.models.recovery.value_map import recover_value_map
from unveil.models.schemes.value_inverse import ValueInverse


def invert_moved_blocks(
    ciphertexts: Images, structure: BlockMap, seed: int = 0, on_step: OnStep = lambda: None
) -> ValueInverse:
    """The inverse of the scheme from ciphertexts uint8 [N, H, W, 3], up to what the structure leaves open.

    Raises ValueError for constant ciphertexts, and for more blocks than `block_layout` takes.
    """
    side, (count, height, width, _) = structure.side, ciphertexts.shape
    rows, columns = height // side, width // side
    blocks = to_blocks(ciphertexts, side).reshape(count * rows * columns, -1)
    values, inverted = recover_value_map(blocks, structure, seed, on_step)
    upright = (blocks ^ (inverted * np.uint8(255)))[:, values].reshape(count, rows * columns, side, side, 3)
    order = recover_block_order(upright.astype(np.float32), rows, columns, on_step, turned=structure.units_move)
    inverse = ValueInverse(side, order, values, inverted[values])
    # An image that is not square may have been read sideways.
    return inverse if order.shape == (rows, columns) else inverse.transform(1, 0, negative=False)
