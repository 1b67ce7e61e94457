"""Shuffled blocks, found from one or more pairs by what a cipher within the block leaves unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images
from unveil.models.structural.layouts import Tiles
from unveil.models.structural.unit_map import Integers, column_hashes, match_hashes

# the values themselves; XOR and differences with the first value of the channel; the values in ascending order, and
# with each value or its inversion
Invariant = Literal["values", "xor", "differences", "sorted values", "sorted magnitudes"]
INVARIANTS: tuple[Invariant, ...] = ("values", "xor", "differences", "sorted values", "sorted magnitudes")

_MAX_IMAGES = 16  # more images tell no more blocks apart
_MIN_MATCHED_SHARE = 0.5


@dataclass(frozen=True)
class BlockOrder:
    """order: of each block of the plain image in row order, the block of the ciphertext that holds it."""

    side: int
    order: Integers
    invariant: Invariant
    matched: float

    @property
    def description(self) -> str:
        return f"{self.side}x{self.side} blocks are shuffled (recognised by their {_INVARIANT_TEXT[self.invariant]})"

    def undo(self, ciphertexts: Images) -> Images:
        tiles = Tiles(self.side, self.side)
        rows = tiles.split(ciphertexts)
        moved = rows.reshape(len(ciphertexts), len(self.order), -1)[:, self.order]
        return tiles.join(moved, ciphertexts.shape).astype(np.uint8, copy=False)


_INVARIANT_TEXT: Mapping[Invariant, str] = {
    "values": "values",
    "xor": "XOR differences",
    "differences": "differences",
    "sorted values": "sorted values",
    "sorted magnitudes": "sorted magnitudes",
}


def find_block_order(side: int, invariant: Invariant, plain: Images, protected: Images) -> BlockOrder | None:
    """The order of the blocks of pairs uint8 [N, H, W, 3]; None: too few are recognised, or all stay in place."""
    inputs = _block_hashes(side, invariant, plain[:_MAX_IMAGES])
    outputs = _block_hashes(side, invariant, protected[:_MAX_IMAGES])
    count = len(inputs)
    order = np.arange(count)
    changed = np.flatnonzero(inputs != outputs)
    source = match_hashes(outputs[changed], inputs[changed])
    order[changed] = np.where(source >= 0, changed[source], -1)
    matched = float((order >= 0).mean())
    if matched < _MIN_MATCHED_SHARE:
        return None
    unmatched = order < 0
    free = np.setdiff1d(np.arange(count), order)
    order[unmatched] = np.resize(free if len(free) else np.arange(count), int(unmatched.sum()))
    if (order == np.arange(count)).all():
        return None
    return BlockOrder(side, order, invariant, matched)


def _block_hashes(side: int, invariant: Invariant, images: Images) -> npt.NDArray[np.uint64]:
    """A hash for each block of what the invariant keeps of it in all images."""
    rows = Tiles(side, side).split(images)
    blocks = rows.reshape(len(images), -1, side * side, 3)
    if invariant == "xor":
        blocks = blocks ^ blocks[:, :, :1]
    elif invariant == "differences":
        blocks = blocks - blocks[:, :, :1]
    elif invariant != "values":
        flat = blocks.reshape(*blocks.shape[:2], -1)
        blocks = np.sort(np.minimum(flat, 255 - flat) if invariant == "sorted magnitudes" else flat, axis=-1)
    columns = blocks.reshape(len(images), blocks.shape[1], -1).transpose(0, 2, 1)
    return column_hashes(columns.reshape(-1, blocks.shape[1]))
