"""The kinds of structure that are tried on pairs, in their order: the most specific first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import get_args

from unveil.models.core.images import Images
from unveil.models.structural.block_order import INVARIANTS, find_block_order
from unveil.models.structural.chaining import CHAINS
from unveil.models.structural.codebook import find_codebook
from unveil.models.structural.layouts import Bits, Layout, Runs, Tiles, whole_image
from unveil.models.structural.linear_map import find_block_linear_map, find_position_linear_map
from unveil.models.structural.modular_map import find_modular_map
from unveil.models.structural.reader import Composed, Reader, Transform
from unveil.models.structural.unit_map import Family, find_unit_map

Find = Callable[[Images, Images], Reader | None]  # plain, protected

_SIDES = (48, 32, 24, 16, 12, 8, 6, 5, 4, 3, 2)  # of blocks, in pixels
_RUNS = (2, 3, 4, 8, 16, 32)  # in values
_MAX_LINEAR_SIDE = 12  # of a block whose linear map is solved: 432 values
_MAX_MODULAR_SIDE = 4
_MAX_CODE_SIDE = 8
_PIXEL = Tiles(1, 1)
_FAMILIES: tuple[Family, ...] = get_args(Family)


def structures(shape: tuple[int, ...], plain: Images, protected: Images) -> Iterator[Find]:
    """Every structure for images of this shape. The pairs show which shuffles of blocks are worth a try."""
    blocks = [Tiles(side, side) for side in _SIDES if Tiles(side, side).fits(shape) and side < min(shape[1:3])]
    small_first = blocks[::-1]
    runs = [Runs(length) for length in _RUNS if Runs(length).fits(shape)]
    whole = whole_image(shape)
    yield from _in_place(whole)
    yield from _shuffled_blocks(blocks, whole, plain, protected)
    yield from _alike_in_all((_PIXEL, *small_first, Tiles(1, shape[2]), Tiles(shape[1], 1)))
    for bits in (8, 4, 2, 1):
        yield from (partial(find_unit_map, whole, bits, family) for family in _families(bits))
    for chain in CHAINS:
        yield from (partial(_after, chain, partial(find_unit_map, whole, 8, family)) for family in ("xor", "add"))
    modular: list[Layout] = [*runs, *(tiles for tiles in small_first if tiles.height <= _MAX_MODULAR_SIDE)]
    for layout in modular:
        yield from (partial(find_modular_map, layout, bits) for bits in (8, 1))
    for tiles in (_PIXEL, *small_first):
        if tiles.height <= _MAX_LINEAR_SIDE:
            yield partial(find_block_linear_map, tiles)
    codes: list[Layout] = [_PIXEL, *runs, *(tiles for tiles in blocks if tiles.height <= _MAX_CODE_SIDE)]
    for layout in codes:
        yield partial(find_codebook, layout)


def _in_place(whole: Layout) -> Iterator[Find]:
    for family in _FAMILIES:
        yield partial(find_unit_map, whole, 8, family, in_place=True)
    yield partial(find_unit_map, whole, 4, "xor", in_place=True)
    yield partial(find_unit_map, whole, 2, "substituted", in_place=True)
    for group in (1, 3):
        yield partial(find_position_linear_map, group)


def _shuffled_blocks(blocks: list[Tiles], whole: Layout, plain: Images, protected: Images) -> Iterator[Find]:
    for tiles in blocks:
        orders = (find_block_order(tiles.height, invariant, plain, protected) for invariant in INVARIANTS)
        order = next(filter(None, orders), None)
        if order is None:
            continue
        if "sorted" in order.invariant:
            yield partial(_after, order, partial(find_unit_map, tiles, 8, "xor"))
        for family in ("xor", "add"):
            yield partial(_after, order, partial(find_unit_map, whole, 8, family, in_place=True))


def _alike_in_all(layouts: tuple[Layout, ...]) -> Iterator[Find]:
    for layout in layouts:
        for bits in (8, 4, 2, 1):
            families = [family for family in _families(bits) if family in ("xor", "substituted")]
            yield from (partial(find_unit_map, layout, bits, family) for family in families)


def _families(bits: Bits) -> tuple[Family, ...]:
    """Of bits, every function is an XOR; XOR with zero is the identity."""
    return {8: _FAMILIES, 1: ("xor",)}.get(bits, ("xor", "substituted"))


def _after(transform: Transform, find: Find, plain: Images, protected: Images) -> Reader | None:
    reader = find(plain, transform.undo(protected))
    return None if reader is None else Composed(transform, reader)
