"""Scrambled blocks of images that share a key, read from ciphertexts alone [M].

Layout, rotations and inversions come from the grey borders of blocks, channel orders from their colours. The reading is
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
from unveil.models.schemes.block_reading import BlockReading


def read_blocks(ciphertexts: Images, side: int, on_step: OnStep = lambda: None) -> BlockReading:
    """The reading of ciphertexts uint8 [N, H, W, 3], up to one rotation, mirroring, inversion and channel order."""
    rows, columns = ciphertexts.shape[1] // side, ciphertexts.shape[2] // side
    grey = to_blocks(ciphertexts, side).astype(np.float32).mean(-1) - np.float32(127.5)
    layout = recover_layout(grey, rows, columns, on_step)
    reading = BlockReading(side, layout.blocks, layout.symmetries, layout.signs < 0, np.zeros_like(layout.blocks))
    upright = reading.decrypt(ciphertexts).astype(np.float32)
    reading = replace(reading, orders=recover_channel_orders(upright - upright.mean(-1, keepdims=True), side))
    # An image that is not square may have been read sideways.
    return reading if reading.blocks.shape == (rows, columns) else reading.transform(1, 0, negative=False)
