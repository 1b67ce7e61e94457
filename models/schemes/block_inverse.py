"""Blocks of images that move, turn, are inverted and exchange channels, and how to read the plain image from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unveil.models.core.blocks import Element, from_blocks, to_blocks
from unveil.models.core.images import Images
from unveil.models.schemes.pixelwise import ORDERS

Integers = npt.NDArray[np.intp]

SYMMETRIES = 8  # of the square: 0 to 3 rotate by quarter turns, 4 to 7 mirror left to right first
MIRROR = 4
# A mirrored rotation is its own inverse; one quarter turn is undone by three.
INVERSE_SYMMETRIES = np.array([0, 3, 2, 1, 4, 5, 6, 7], np.uint8)
ORDER_NUMBERS = {tuple(order): number for number, order in enumerate(ORDERS.tolist())}


def apply_symmetry(images: npt.NDArray[Element], symmetry: int) -> npt.NDArray[Element]:
    """Mirror [..., H, W, C] left to right if `symmetry` is 4 or more, then rotate by `symmetry` % 4 quarter turns."""
    return np.rot90(images[..., ::-1, :] if symmetry >= 4 else images, symmetry % 4, axes=(-3, -2))


def _symmetry_products() -> Integers:
    square = np.arange(4).reshape(2, 2, 1)
    symmetries = {apply_symmetry(square, symmetry).tobytes(): symmetry for symmetry in range(SYMMETRIES)}
    return np.array(
        [
            [symmetries[apply_symmetry(apply_symmetry(square, a), b).tobytes()] for b in range(SYMMETRIES)]
            for a in range(SYMMETRIES)
        ]
    )


SYMMETRY_PRODUCTS = _symmetry_products()  # [a, b]: the symmetry that applies a, then b
ORDER_PRODUCTS = np.array([[ORDER_NUMBERS[tuple(a[b])] for b in ORDERS.astype(np.intp)] for a in ORDERS])


@dataclass(frozen=True)
class BlockInverse:
    """Restores plain images from scrambled blocks; every map [R, C] is indexed by the place in the plain image.

    side: of a block, in pixels; blocks: index of the scrambled block; symmetries: the symmetry that brings the block
    upright; negative: bool, whether to invert it; orders: plain channel c is channel ORDERS[order][c] of the block.
    """

    side: int
    blocks: Integers
    symmetries: Integers
    negative: npt.NDArray[np.bool_]
    orders: Integers

    def decrypt(self, images: Images) -> Images:
        """Ciphertexts uint8 [N, H, W, 3] -> plain images."""
        blocks = apply_symmetries(to_blocks(images, self.side)[:, self.blocks.ravel()], self.symmetries.ravel())
        blocks = blocks ^ (self.negative.ravel() * np.uint8(255))[:, None, None, None]
        rows, columns = self.blocks.shape
        shape = (len(images), rows * self.side, columns * self.side, 3)
        return from_blocks(permute_channels(blocks, ORDERS[self.orders.ravel()]), shape)

    def transform(self, symmetry: int, order: int, *, negative: bool) -> BlockInverse:
        """The inverse whose images are moved by `symmetry`, take channels by ORDERS[order] and are inverted or not."""

        def moved(values: npt.NDArray[Element]) -> npt.NDArray[Element]:
            return np.ascontiguousarray(apply_symmetry(values[..., None], symmetry)[..., 0])

        return BlockInverse(
            self.side,
            moved(self.blocks),
            SYMMETRY_PRODUCTS[moved(self.symmetries), symmetry],
            moved(self.negative) ^ negative,
            ORDER_PRODUCTS[moved(self.orders), order],
        )


def apply_symmetries(blocks: Images, symmetries: npt.NDArray[np.integer]) -> Images:
    """Apply to each of the blocks [N, B, P, P, 3] its own symmetry [B]."""
    out = blocks.copy()
    for symmetry in range(1, SYMMETRIES):
        out[:, symmetries == symmetry] = apply_symmetry(blocks[:, symmetries == symmetry], symmetry)
    return out


def permute_channels(blocks: Images, orders: npt.NDArray[np.int8]) -> Images:
    """Channel c of block b of [N, B, P, P, 3] becomes its channel orders[b, c]."""
    return np.take_along_axis(blocks, orders[None, :, None, None, :].astype(np.intp), axis=4)
