"""Moves blocks of images, and the values of all blocks by one map."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from unveil.models.core.blocks import check_sides, from_blocks, to_blocks
from unveil.models.core.images import Images

Integers = npt.NDArray[np.integer[Any]]


def move_values(images: Images, blocks: Integers | None, source: Integers, flips: npt.NDArray[np.bool_]) -> Images:
    """Output block i is input block blocks[i], and its value j value source[j], inverted if flips of the input is set.

    blocks: [R, C], or None if blocks stay in place; source, flips: [D] in (row, column, channel) order.
    """
    from unveil.models.core import numba_kernels  # imported late: the API imports this module and needs no compiler

    side, out_flips = math.isqrt(len(source) // 3), flips[source] * np.uint8(255)
    check_sides(images, side)
    count, height, width, _ = images.shape
    if blocks is not None and (height, width) != (blocks.shape[0] * side, blocks.shape[1] * side):
        raise ValueError(
            f"the key fits images of {blocks.shape[1] * side}x{blocks.shape[0] * side}; got {width}x{height}"
        )
    order = np.arange(height // side * (width // side)) if blocks is None else blocks.ravel()
    # A tile of several blocks is a block whose map repeats theirs. The kernel moves words of four bytes.
    tile = math.lcm(side, 4) if blocks is None else side
    if numba_kernels.shuffle_block_values is None or tile % 4 or height % tile or width % tile:
        split = to_blocks(images, side)
        moved = split.reshape(count, len(order), len(source))[:, order][:, :, source] ^ out_flips
        return from_blocks(moved.reshape(split.shape), images.shape)
    if tile > side:
        source, out_flips = (
            _repeat(source, side, tile // side),
            np.tile(out_flips.reshape(side, -1), (tile // side,) * 2),
        )
        order = np.arange((height // tile) * (width // tile))
    words = np.arange(height * width * 3 // 4, dtype=np.uint64).reshape(height // tile, tile, width // tile, -1)
    starts = words[:, 0, :, 0].ravel()
    out = np.empty(images.shape, np.uint8)
    rotations = (8 * (np.arange(len(source)) - source) % 32).astype(np.uint32)
    numba_kernels.shuffle_block_values(
        np.ascontiguousarray(images).reshape(count, height * width * 3).view(np.uint32),
        starts[order],
        starts,
        words[0, :, 0].ravel(),
        (source // 4).astype(np.uint64).reshape(-1, 4),
        rotations.reshape(-1, 4),
        out_flips.ravel().view(np.uint32),
        out.reshape(count, height * width * 3).view(np.uint32),
    )
    return out


def _repeat(source: Integers, side: int, times: int) -> Integers:
    """The map of a tile of times x times blocks, each of which keeps the map of a block."""
    tile = np.arange(3 * (side * times) ** 2).reshape(times, side, times, 3 * side)
    blocks = tile.transpose(0, 2, 1, 3).reshape(times, times, -1)[:, :, source]
    repeated: Integers = blocks.reshape(times, times, side, 3 * side).transpose(0, 2, 1, 3).ravel()
    return repeated
