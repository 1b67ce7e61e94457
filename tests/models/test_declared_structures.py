"""Pairs that no map of the declared structure explains."""

from __future__ import annotations

import numpy as np
import pytest

from unveil.models.core.structure import BlockMap, BlockScramble, PositionPermutation, Structure
from unveil.models.schemes.pair_solving import InconsistentPairs
from unveil.models.structural.declared import solve


@pytest.mark.parametrize(
    ("structure", "units"),
    [
        (BlockMap(8, "value"), "the values of 8x8 blocks"),
        (PositionPermutation("pixel"), "the pixels of an image"),
        (BlockScramble(8), "the 8x8 blocks of an image"),
    ],
    ids=["blocks", "positions", "scramble"],
)
def test_the_message_names_what_was_to_move(structure: Structure, units: str) -> None:
    plain, protected = np.random.default_rng(0).integers(0, 256, (2, 4, 16, 16, 3), np.uint8)
    with pytest.raises(InconsistentPairs, match=f"no map of {units} is consistent with the pairs"):
        solve(structure, plain, protected)
