"""Moved blocks whose values one map permutes, read from ciphertexts that share the key alone [M].

All blocks of all images share the map of values, so its inversions and places follow from second-order statistics. The
upright blocks then find their neighbours by the continuity of their borders. The reading is exact up to one rotation,
mirroring, inversion and channel order of the whole image, which public statistics settle
(`unveil.models.recovery.orientation`); nothing tells an image from its mirror image.
"""

from __future__ import annotations

import numpy as np

from unveil.models.core.images import Images
from unveil.models.core.run_context import OnStep
from unveil.models.recovery.block_layout import recover_block_order
from unveil.models.recovery.pixel_order import recover_value_places
from unveil.models.recovery.value_inversions import find_inversions
from unveil.models.schemes.block_reading import to_blocks
from unveil.models.schemes.value_reading import ValueReading


def read_moved_blocks(ciphertexts: Images, side: int, seed: int = 0, on_step: OnStep = lambda: None) -> ValueReading:
    """The reading of ciphertexts uint8 [N, H, W, 3], up to one rotation, mirroring, inversion and channel order.

    Raises ValueError for constant ciphertexts, and for more blocks than `block_layout` takes.
    """
    count, height, width, _ = ciphertexts.shape
    rows, columns = height // side, width // side
    blocks = to_blocks(ciphertexts, side).reshape(count * rows * columns, -1)
    is_inverted = find_inversions(blocks)
    blocks = blocks ^ (is_inverted * np.uint8(255))
    values = np.argsort(recover_value_places(blocks, side, seed, on_step)).reshape(side, side, 3)
    upright = blocks[:, values.ravel()].reshape(count, rows * columns, side, side, 3).astype(np.float32)
    order = recover_block_order(upright, rows, columns, on_step)
    reading = ValueReading(side, order, values, is_inverted[values])
    # An image that is not square may have been read sideways.
    return reading if order.shape == (rows, columns) else reading.transform(1, 0, negative=False)
