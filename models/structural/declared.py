"""The map of a scheme that declares its structure, from pairs: as few as one of a permutation."""

from __future__ import annotations

import numpy as np

from unveil.models.core.images import Images
from unveil.models.core.structure import BlockMap, BlockScramble, LinearMap, PositionPermutation, Structure
from unveil.models.schemes.pair_solving import InconsistentPairs, check_pairs
from unveil.models.structural.layouts import Bits, Tiles, whole_image
from unveil.models.structural.linear_map import find_block_linear_map
from unveil.models.structural.reader import Reader, StructureInverse
from unveil.models.structural.unit_map import Family, find_unit_map

_MIN_EXACT = 0.05  # share of the values of the pairs themselves
_MAX_LINEAR_ERROR = 16.0  # mean, in grey levels, of the pairs themselves: rounding and clipping, but not noise
_WHOLE_IMAGE_FAMILIES: tuple[Family, ...] = ("moved", "xor")


def solves(structure: Structure | None) -> bool:
    """Whether pairs give the map of such a scheme."""
    if isinstance(structure, LinearMap):
        return structure.side is not None
    return isinstance(structure, BlockMap | BlockScramble | PositionPermutation)


def solve(structure: Structure, plain: Images, protected: Images) -> StructureInverse:
    """The map that pairs uint8 [N, H, W, 3] determine.

    Raises InconsistentPairs if no map of the structure explains them, and ValueError for arrays that are not pairs and
    for fewer pairs than a linear map needs.
    """
    check_pairs(plain, protected)
    if isinstance(structure, LinearMap):
        return _solve_linear_map(structure, plain, protected)
    bits: Bits = 4 if isinstance(structure, BlockMap | PositionPermutation) and structure.unit == "nibble" else 8
    if isinstance(structure, BlockMap) and structure.shared:
        tiles = Tiles(structure.side, structure.side)
        inverse = _to_inverse(find_unit_map(tiles, bits, "xor", plain, protected), plain, protected)
        if inverse is not None:
            return inverse
    elif len(plain) == 1:
        raise ValueError("one pair does not determine where every value of an image moves; give at least two")
    # A single pair fits a map of the whole image whatever the cipher, so such maps come last and need a second pair.
    if len(plain) > 1:
        inverse = _to_inverse(_find_map_of_image(bits, plain, protected), plain, protected)
        if inverse is not None:
            return inverse
    raise InconsistentPairs(f"no map of {_describe_units(structure)} is consistent with the pairs")


def _describe_units(structure: Structure) -> str:
    match structure:
        case BlockMap(side=side, unit=unit):
            return f"the {unit}s of {side}x{side} blocks"
        case PositionPermutation(unit=unit):
            return f"the {unit}s of an image"
        case BlockScramble(side=side):
            return f"the {side}x{side} blocks of an image"
        case _:
            return "an image"


def _solve_linear_map(structure: LinearMap, plain: Images, protected: Images) -> StructureInverse:
    assert structure.side is not None
    reader = find_block_linear_map(Tiles(structure.side, structure.side), plain, protected)
    if reader is None:
        raise ValueError(f"too few pairs for the linear map of a block of {structure.side}x{structure.side} pixels")
    inverse = StructureInverse(reader)
    if np.abs(inverse.decrypt(protected).astype(np.int16) - plain).mean() > _MAX_LINEAR_ERROR:
        raise InconsistentPairs(f"no linear map of {structure.side}x{structure.side} blocks explains the pairs")
    return inverse


def _find_map_of_image(bits: Bits, plain: Images, protected: Images) -> Reader | None:
    """A map of the units of the whole image, of the family that reads the last of several pairs best."""
    layout = whole_image(plain.shape)

    def held_out_share(family: Family) -> float:
        reader = find_unit_map(layout, bits, family, plain[:-1], protected[:-1])
        return 0.0 if reader is None else _exact_share(StructureInverse(reader), plain[-1:], protected[-1:])

    return find_unit_map(layout, bits, max(_WHOLE_IMAGE_FAMILIES, key=held_out_share), plain, protected)


def _to_inverse(reader: Reader | None, plain: Images, protected: Images) -> StructureInverse | None:
    """The inverse, if it explains the pairs."""
    inverse = None if reader is None else StructureInverse(reader)
    return inverse if inverse is not None and _exact_share(inverse, plain, protected) >= _MIN_EXACT else None


def _exact_share(inverse: StructureInverse, plain: Images, protected: Images) -> float:
    return float((inverse.decrypt(protected) == plain).mean())
