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
from unveil.models.schemes.base import Scheme
from unveil.models.schemes.key_json import decode_map, encode_map, parse_permutation, parse_size
from unveil.models.schemes.tanaka import BLOCK, NIBBLES, from_nibbles, nibbles


@dataclass(frozen=True)
class EleSettings:
    pass


@dataclass(frozen=True)
class EleKey:
    """The key for R x C blocks of 4x4 pixels.

    permutation: uint8 [R, C, 96], for each block as in Tanaka's scheme; reversed: bool [R, C, 96], whether an input
    nibble is inverted; blocks: int64 [R * C], output block i is input block blocks[i].
    """

    permutation: npt.NDArray[np.uint8]
    reversed: npt.NDArray[np.bool_]
    blocks: npt.NDArray[np.int64]


class Ele(Scheme[EleSettings, EleKey]):
    """Nibbles of each 4x4 block are inverted or not and permuted, each block under its own key; blocks are permuted."""

    name = "ele"
    title = "ELE"
    source = "Madono, Tanaka, Onishi, Ogawa 2020 [R]"
    Settings = EleSettings

    @property
    def size_multiple(self) -> int:
        return BLOCK

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
