"""Blocks that move and whose values one map permutes and inverts, and how to restore the plain image from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unveil.models.core.blocks import from_blocks, to_blocks
from unveil.models.core.images import Images
from unveil.models.schemes.block_inverse import Integers, apply_symmetry
from unveil.models.schemes.pixelwise import ORDERS


@dataclass(frozen=True)
class ValueInverse:
    """Restores plain images from moved blocks of permuted values.

    side: of a block, in pixels.
    blocks: [R, C], by place in the plain image, the index of the ciphertext block.
    values: [P, P, 3], by place in a plain block, the index of the value in the ciphertext block, row by row.
    negative: bool [P, P, 3], whether to invert the value.
    """

    side: int
    blocks: Integers
    values: Integers
    negative: npt.NDArray[np.bool_]

    def decrypt(self, images: Images) -> Images:
        """Ciphertexts uint8 [N, H, W, 3] -> plain images."""
        blocks = to_blocks(images, self.side)
        moved = blocks.reshape(len(images), self.blocks.size, self.values.size)[:, self.blocks.ravel()]
        plain = moved[:, :, self.values.ravel()] ^ (self.negative.ravel() * np.uint8(255))
        rows, columns = self.blocks.shape
        return from_blocks(plain.reshape(blocks.shape), (len(images), rows * self.side, columns * self.side, 3))

    def transform(self, symmetry: int, order: int, *, negative: bool) -> ValueInverse:
        """The inverse whose images are moved by `symmetry`, take channels by ORDERS[order] and are inverted or not."""
        channels = ORDERS[order].astype(np.intp)
        return ValueInverse(
            self.side,
            np.ascontiguousarray(apply_symmetry(self.blocks[..., None], symmetry)[..., 0]),
            np.ascontiguousarray(apply_symmetry(self.values, symmetry)[..., channels]),
            np.ascontiguousarray(apply_symmetry(self.negative, symmetry)[..., channels]) ^ negative,
        )
