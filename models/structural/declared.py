"""The map of a scheme that declares its structure, from pairs: as few as one of a permutation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from unveil.models.core.images import Images
from unveil.models.core.structure import BlockMap, BlockScramble, LinearMap, PositionPermutation, Structure
from unveil.models.schemes.pair_solving import InconsistentPairs, check_pairs
from unveil.models.structural.block_order import Invariant, find_block_order
from unveil.models.structural.layouts import Bits, Tiles, whole_image
from unveil.models.structural.linear_map import find_block_linear_map
from unveil.models.structural.reader import Composed, Reader, StructureInverse
from unveil.models.structural.unit_map import Family, find_unit_map

_MIN_EXACT = 0.05  # share of the values of the pairs themselves
_MAX_LINEAR_ERROR = 16.0  # mean, in grey levels, of the pairs themselves: rounding and clipping, but not noise


@dataclass(frozen=True)
class SolvedMap:
    """determined: the share of the values of the pairs that the map decrypts exactly."""

    key: StructureInverse
    determined: float


def solves(structure: Structure | None) -> bool:
    """Whether pairs give the map of such a scheme."""
    if isinstance(structure, LinearMap):
        return structure.side is not None
    return isinstance(structure, BlockMap | BlockScramble | PositionPermutation)


def solve(structure: Structure, plain: Images, protected: Images) -> SolvedMap:
    """The map that explains pairs uint8 [N, H, W, 3] best.

    Raises InconsistentPairs if none does, and ValueError for arrays that are not pairs.
    """
    check_pairs(plain, protected)
    best: SolvedMap | None = None
    for reader in _readers(structure, plain, protected):
        inverse = StructureInverse(reader)
        decrypted = inverse.decrypt(protected)
        exact = float((decrypted == plain).mean())
        error = float(np.abs(decrypted.astype(np.int16) - plain).mean())
        explained = error <= _MAX_LINEAR_ERROR if isinstance(structure, LinearMap) else exact >= _MIN_EXACT
        if explained and (best is None or exact > best.determined):
            best = SolvedMap(inverse, exact)
    if best is None:
        raise InconsistentPairs(f"no map of the structure {structure} is consistent with the pairs")
    return best


def _readers(structure: Structure, plain: Images, protected: Images) -> Iterator[Reader]:
    whole = whole_image(plain.shape)
    if isinstance(structure, LinearMap):
        assert structure.side is not None
        yield from filter(None, [find_block_linear_map(Tiles(structure.side, structure.side), plain, protected)])
        return
    bits: Bits = 4 if isinstance(structure, BlockMap | PositionPermutation) and structure.unit == "nibble" else 8
    if isinstance(structure, BlockMap) and structure.shared:
        tiles = Tiles(structure.side, structure.side)
        if not structure.blocks_move:
            yield from filter(None, [find_unit_map(tiles, bits, "xor", plain, protected)])
        invariants: tuple[Invariant, ...] = ("sorted values", "sorted magnitudes")
        for invariant in invariants:
            order = find_block_order(structure.side, invariant, plain, protected)
            if order is not None:
                reader = find_unit_map(tiles, bits, "xor", plain, order.undo(protected))
                yield from [Composed(order, reader)] if reader else []
    families: tuple[Family, ...] = ("moved", "xor")
    for family in families:
        yield from filter(None, [find_unit_map(whole, bits, family, plain, protected)])
