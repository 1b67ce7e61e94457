"""Blocks of images that move, turn, are inverted and exchange channels, and how to read the plain image from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images, check_images
from unveil.models.schemes.pixelwise import ORDERS

Integers = npt.NDArray[np.intp]
Element = TypeVar("Element", bound=np.generic)

TURNS = 8  # quarter turns 0 to 3; 4 to 7: mirrored left to right first
# A mirrored rotation is its own inverse; one quarter turn is undone by three.
INVERSE_TURNS = np.array([0, 3, 2, 1, 4, 5, 6, 7], np.uint8)
ORDER_NUMBERS = {tuple(order): number for number, order in enumerate(ORDERS.tolist())}


def turn(images: npt.NDArray[Element], code: int) -> npt.NDArray[Element]:
    """Mirror [..., H, W, C] left to right if `code` is 4 or more, then rotate by `code` % 4 quarter turns."""
    return np.rot90(images[..., ::-1, :] if code >= 4 else images, code % 4, axes=(-3, -2))


def _turn_products() -> Integers:
    square = np.arange(4).reshape(2, 2, 1)
    codes = {turn(square, code).tobytes(): code for code in range(TURNS)}
    return np.array([[codes[turn(turn(square, a), b).tobytes()] for b in range(TURNS)] for a in range(TURNS)])


TURN_PRODUCTS = _turn_products()  # [a, b]: the code of turn b after turn a
_ORDER_PRODUCTS = np.array([[ORDER_NUMBERS[tuple(a[b])] for b in ORDERS.astype(np.intp)] for a in ORDERS])


@dataclass(frozen=True)
class BlockReading:
    """How the plain image is read from scrambled blocks; every map [R, C] is indexed by the place in the plain image.

    side: of a block, in pixels; blocks: index of the scrambled block; turns: the code of `turn` that brings it upright;
    negative: bool, whether to invert it; orders: plain channel c is channel ORDERS[order][c] of the block.
    """

    side: int
    blocks: Integers
    turns: Integers
    negative: npt.NDArray[np.bool_]
    orders: Integers

    def decrypt(self, images: Images) -> Images:
        """Read ciphertexts uint8 [N, H, W, 3]."""
        blocks = turn_each_block(to_blocks(images, self.side)[:, self.blocks.ravel()], self.turns.ravel())
        blocks = blocks ^ (self.negative.ravel() * np.uint8(255))[:, None, None, None]
        rows, columns = self.blocks.shape
        shape = (len(images), rows * self.side, columns * self.side, 3)
        return from_blocks(permute_channels(blocks, ORDERS[self.orders.ravel()]), shape)

    def transform(self, code: int, order: int, *, negative: bool) -> BlockReading:
        """The reading whose images are turned by `code`, take channels by ORDERS[order] and are inverted or not."""

        def turned(values: npt.NDArray[Element]) -> npt.NDArray[Element]:
            return np.ascontiguousarray(turn(values[..., None], code)[..., 0])

        return BlockReading(
            self.side,
            turned(self.blocks),
            TURN_PRODUCTS[turned(self.turns), code],
            turned(self.negative) ^ negative,
            _ORDER_PRODUCTS[turned(self.orders), order],
        )


def turn_each_block(blocks: Images, codes: npt.NDArray[np.integer]) -> Images:
    """Apply `turn` to blocks [N, B, P, P, 3] by the code [B] of each."""
    out = blocks.copy()
    for code in range(1, TURNS):
        out[:, codes == code] = turn(blocks[:, codes == code], code)
    return out


def permute_channels(blocks: Images, orders: npt.NDArray[np.int8]) -> Images:
    """Channel c of block b of [N, B, P, P, 3] becomes its channel orders[b, c]."""
    return np.take_along_axis(blocks, orders[None, :, None, None, :].astype(np.intp), axis=4)


def to_blocks(images: Images, side: int) -> Images:
    """uint8 [N, H, W, 3] -> blocks [N, B, side, side, 3] in row order. Raises ValueError for sizes that do not fit."""
    check_images(images)
    count, height, width, _ = images.shape
    if height % side or width % side:
        raise ValueError(f"image sides must be multiples of {side}; got {width}x{height}: pad first")
    split = images.reshape(count, height // side, side, width // side, side, 3)
    return split.transpose(0, 1, 3, 2, 4, 5).reshape(count, height // side * (width // side), side, side, 3)


def from_blocks(blocks: Images, shape: tuple[int, ...]) -> Images:
    """The inverse of `to_blocks` for images of this shape."""
    count, height, width, _ = shape
    side = blocks.shape[2]
    split = blocks.reshape(count, height // side, width // side, side, side, 3)
    return split.transpose(0, 1, 3, 2, 4, 5).reshape(shape)
