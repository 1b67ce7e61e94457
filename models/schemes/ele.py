"""Extended learnable encryption, ELE (Madono et al. 2020) [R]: Tanaka's scheme with block keys and moved blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unveil.models.core import keystream
from unveil.models.core.images import Images
from unveil.models.core.settings_schema import ParameterError
from unveil.models.core.structure import BlockMap
from unveil.models.schemes.base import NoSettings, Scheme
from unveil.models.schemes.key_json import decode_map, encode_map, parse_permutation, parse_size
from unveil.models.schemes.pair_solving import SolvedKey, check_pairs, match_labels
from unveil.models.schemes.tanaka import BLOCK, NIBBLES, from_nibbles, nibbles

_MAX_PAIRS_PER_CODE = 15  # pairs whose nibbles fit into a 64-bit code


@dataclass(frozen=True)
class EleKey:
    """The key for R x C blocks of 4x4 pixels.

    permutation: uint8 [R, C, 96], for each block as in Tanaka's scheme; reversed: bool [R, C, 96], whether an input
    nibble is inverted; blocks: int64 [R * C], output block i is input block blocks[i].
    """

    permutation: npt.NDArray[np.uint8]
    reversed: npt.NDArray[np.bool_]
    blocks: npt.NDArray[np.int64]


class Ele(Scheme[NoSettings, EleKey]):
    """Nibbles of each 4x4 block are inverted or not and permuted, each block under its own key; blocks are permuted."""

    name = "ele"
    title = "ELE"
    source = "Madono, Tanaka, Onishi, Ogawa 2020 [R]"

    @property
    def size_multiple(self) -> int:
        return BLOCK

    @property
    def structure(self) -> BlockMap:
        return BlockMap(BLOCK, "nibble", shared=False, blocks_move=True)

    def key_space_bits(self, height: int, width: int) -> float:
        """log2((96! * 2^96)^B * B!) for B blocks."""
        count = (height // BLOCK) * (width // BLOCK)
        return count * (math.lgamma(NIBBLES + 1) / math.log(2) + NIBBLES) + math.lgamma(count + 1) / math.log(2)

    def derive(self, seed: bytes, height: int, width: int) -> EleKey:
        rows, columns, label = height // BLOCK, width // BLOCK, f"ele/{height}x{width}"
        shape = (rows, columns, NIBBLES)
        return EleKey(
            keystream.permutations(seed, f"{label}/permutation", NIBBLES, rows * columns)
            .astype(np.uint8)
            .reshape(shape),
            keystream.bits(seed, f"{label}/reversed", rows * columns * NIBBLES).reshape(shape),
            keystream.permutation(seed, f"{label}/blocks", rows * columns),
        )

    def encrypt(self, images: Images, key: EleKey) -> Images:
        values = nibbles(images) ^ key.reversed * np.uint8(15)
        values = np.take_along_axis(values, key.permutation[None].astype(np.intp), axis=3)
        return from_nibbles(values.reshape(len(images), len(key.blocks), NIBBLES)[:, key.blocks].reshape(values.shape))

    def decrypt(self, images: Images, key: EleKey) -> Images:
        values = nibbles(images)
        values = values.reshape(len(images), len(key.blocks), NIBBLES)[:, np.argsort(key.blocks)].reshape(values.shape)
        values = np.take_along_axis(values, np.argsort(key.permutation, axis=2)[None], axis=3)
        return from_nibbles(values ^ key.reversed * np.uint8(15))

    def key_size(self, key: EleKey) -> tuple[int, int]:
        return key.permutation.shape[0] * BLOCK, key.permutation.shape[1] * BLOCK

    def key_to_json(self, key: EleKey) -> dict[str, Any]:
        height, width = self.key_size(key)
        return {
            "width": width,
            "height": height,
            "permutation": encode_map(key.permutation),
            "reversed": encode_map(key.reversed),
            "blocks": key.blocks.tolist(),
        }

    def key_from_json(self, material: Mapping[str, Any]) -> EleKey:
        height, width = parse_size(material, {"permutation", "reversed", "blocks"}, BLOCK)
        shape = (height // BLOCK, width // BLOCK, NIBBLES)
        permutation = decode_map(material, "permutation", math.prod(shape), NIBBLES - 1).reshape(shape)
        if (np.sort(permutation, axis=2) != np.arange(NIBBLES)).any():
            raise ParameterError([("/permutation", "must contain each of 0..95 once for every block")])
        flips = decode_map(material, "reversed", math.prod(shape), 1).astype(np.bool_).reshape(shape)
        return EleKey(permutation, flips, parse_permutation(material, "blocks", shape[0] * shape[1]))

    def solve_pairs(self, plain: Images, protected: Images) -> SolvedKey[EleKey]:
        """Match blocks by their sets of nibble codes, then each nibble by its code over at most 15 pairs.

        One pair determines hardly any nibble; photographs need about ten pairs for all but their flat regions. Raises
        InconsistentPairs.
        """
        check_pairs(plain, protected)
        inputs, outputs = nibbles(plain[:_MAX_PAIRS_PER_CODE]), nibbles(protected[:_MAX_PAIRS_PER_CODE])
        rows, columns = inputs.shape[1:3]
        (source, canonical), (target, scrambled) = _nibble_codes(inputs), _nibble_codes(outputs)
        # Matching blocks have the same set of codes, so sorting the codes matches the nibbles.
        from_order, to_order = (np.argsort(codes, axis=1, kind="stable") for codes in (canonical, scrambled))
        before, after = np.take_along_axis(canonical, from_order, 1), np.take_along_axis(scrambled, to_order, 1)
        blocks, is_unique = match_labels(list(map(bytes, before)), list(map(bytes, after)))
        place = np.empty((rows * columns, NIBBLES), np.intp)
        flips = np.zeros((rows * columns, NIBBLES), np.bool_)
        output_places = np.empty_like(place)
        output_places[blocks] = to_order  # by input block
        np.put_along_axis(place, output_places, from_order, axis=1)
        unshuffled = np.empty_like(target)
        unshuffled[blocks] = target
        moved = np.take_along_axis(source, place, 1) != unshuffled
        np.put_along_axis(flips, place, moved, axis=1)
        first, last = np.ones((len(before), 1), np.bool_), before[:, 1:] != before[:, :-1]
        clear = np.concatenate([first, last], 1) & np.concatenate([last, first], 1)
        shape = (rows, columns, NIBBLES)
        key = EleKey(place.astype(np.uint8).reshape(shape), flips.reshape(shape), blocks)
        return SolvedKey(key, float((clear[blocks] & is_unique[:, None]).mean()))


def _nibble_codes(values: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Nibbles [N, rows, columns, 96] -> codes uint64 [blocks, 96] over the pairs, and their canonical form.

    The canonical code is the smaller of the code and the code of the inverted nibble.
    """
    digits = values.reshape(len(values), -1, NIBBLES).astype(np.uint64)
    codes = np.zeros(digits.shape[1:], np.uint64)
    for digit in digits:
        codes = codes * np.uint64(16) + digit
    return codes, np.minimum(codes, np.uint64(16 ** len(values) - 1) - codes)
