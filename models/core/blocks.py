"""Images cut into square blocks, in row order, and joined again."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images, check_images

Element = TypeVar("Element", bound=np.generic)


def check_sides(images: Images, side: int) -> None:
    """Raise ValueError unless `images` is uint8 [N, H, W, 3] with H and W multiples of `side`."""
    check_images(images)
    height, width = images.shape[1:3]
    if height % side or width % side:
        raise ValueError(f"image sides must be multiples of {side}; got {width}x{height}: pad first")


def to_blocks(images: Images, side: int) -> Images:
    """uint8 [N, H, W, 3] -> blocks [N, B, side, side, 3]. Raises ValueError for sizes that do not fit."""
    check_sides(images, side)
    return cut_blocks(images, side)


def cut_blocks(values: npt.NDArray[Element], side: int) -> npt.NDArray[Element]:
    """`to_blocks` of any dtype and without its check."""
    count, height, width, _ = values.shape
    split = values.reshape(count, height // side, side, width // side, side, 3)
    return split.transpose(0, 1, 3, 2, 4, 5).reshape(count, height // side * (width // side), side, side, 3)


def from_blocks(blocks: npt.NDArray[Element], shape: tuple[int, ...]) -> npt.NDArray[Element]:
    """The inverse of `to_blocks` and `cut_blocks` for images of this shape."""
    count, height, width, _ = shape
    side = blocks.shape[2]
    split = blocks.reshape(count, height // side, width // side, side, side, 3)
    return split.transpose(0, 1, 3, 2, 4, 5).reshape(shape)
