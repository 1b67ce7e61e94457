"""Scrambled blocks of images that share a key, read from ciphertexts alone [M].

Layout, rotations and inversions come from the grey borders of blocks, channel orders from their colours. The inverse is
exact up to one rotation, mirroring, inversion and channel order of the whole image, which public statistics settle
(`unveil.models.recovery.orientation`); nothing tells an image from its mirror image.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unveil.models.core.blocks import to_blocks
from unveil.models.core.images import Images
from unveil.models.core.run_context import OnStep
from unveil.models.recovery.block_layout import recover_layout
from unveil.models.recovery.channel_orders import recover_channel_orders
from unveil.models.schemes.block_inverse import BlockInverse


def invert_blocks(ciphertexts: Images, side: int, on_step: OnStep = lambda: None) -> BlockInverse:
    """From ciphertexts uint8 [N, H, W, 3]; right up to one rotation, mirroring, inversion and channel order."""
    rows, columns = ciphertexts.shape[1] // side, ciphertexts.shape[2] // side
    grey = to_blocks(ciphertexts, side).astype(np.float32).mean(-1) - np.float32(127.5)
    layout = recover_layout(grey, rows, columns, on_step)
    inverse = BlockInverse(side, layout.blocks, layout.symmetries, layout.signs < 0, np.zeros_like(layout.blocks))
    upright = inverse.decrypt(ciphertexts).astype(np.float32)
    inverse = replace(inverse, orders=recover_channel_orders(upright - upright.mean(-1, keepdims=True), side))
    # An image that is not square may have been read sideways.
    return inverse if inverse.blocks.shape == (rows, columns) else inverse.transform(1, 0, negative=False)
