"""Tanaka's block-wise scheme (Tanaka 2018; paper section 2.2, equation 1)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from unveil.models.core import keystream
from unveil.models.core.blocks import check_sides, from_blocks, to_blocks
from unveil.models.core.images import Images
from unveil.models.core.settings_schema import setting
from unveil.models.core.structure import BlockMap
from unveil.models.schemes.base import PaperRow, Scheme
from unveil.models.schemes.key_json import check_fields, parse_integers, parse_permutation
from unveil.models.schemes.pixelwise import ORDERS

BLOCK = 4
NIBBLES = 6 * BLOCK * BLOCK  # 96: index = 48 * upper + 12 * row + 3 * column + channel, lower nibbles first

_PAPER = PaperRow(
    {"fr": 0.1079, "itn": 0.9147, "gan": 0.7152}, {"fr": True, "itn": False, "gan": False}, classification="Low"
)


@dataclass(frozen=True)
class TanakaSettings:
    variant: Literal["paper", "icce2018"] = setting(
        "paper", "paper: inversions independent of the permutation [P]; icce2018: derived from it [C]"
    )
    block: int = setting(BLOCK, "Side of a block in pixels; the paper uses 4", minimum=BLOCK, maximum=BLOCK)


@dataclass(frozen=True)
class TanakaKey:
    """permutation: int64 [96], output nibble i is input nibble permutation[i]; reversed: bool [96], by input nibble."""

    permutation: npt.NDArray[np.int64]
    reversed: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class NibblePermutation:
    """One map of the 96 nibbles of every block: output nibble i is input nibble place[i], inverted if sign[i] is -1."""

    place: npt.NDArray[np.intp]  # [96]
    sign: npt.NDArray[np.int8]  # [96]

    def transform(self, order: int, *, negative: bool = False) -> NibblePermutation:
        """The permutation whose decryption has as channel c channel ORDERS[order][c] of this one's decryption.

        All values are inverted if `negative`.
        """
        half, rest = np.divmod(self.place, NIBBLES // 2)
        pixel, channel = np.divmod(rest, 3)
        moved = np.argsort(ORDERS[order])[channel]
        return NibblePermutation(half * (NIBBLES // 2) + 3 * pixel + moved, -self.sign if negative else self.sign)

    def decrypt(self, images: Images) -> Images:
        """Undo this map on uint8 [N, H, W, 3], sides multiples of 4."""
        values = nibbles(images) ^ np.where(self.sign < 0, 15, 0).astype(np.uint8)
        return from_nibbles(values[..., np.argsort(self.place)])


class Tanaka(Scheme[TanakaSettings, TanakaKey]):
    """The 96 nibbles of each 4x4 block are inverted (15 - v) or not and permuted; one key serves all blocks and images.

    The variant `paper` inverts before the permutation. The variant `icce2018`, the author's released program, inverts
    before and after it, where permutation > 48.
    """

    name = "tanaka"
    title = "Tanaka's scheme"
    source = "Tanaka 2018; paper section 2.2"
    Settings = TanakaSettings
    paper_name = "Tanaka's Scheme"
    paper_position = 2

    @property
    def size_multiple(self) -> int:
        return BLOCK

    @property
    def structure(self) -> BlockMap:
        return BlockMap(BLOCK, "nibble")

    @property
    def paper(self) -> PaperRow:
        return _PAPER

    def key_space_bits(self, height: int, width: int) -> float:  # noqa: ARG002 - the same for every size
        """log2(96! * 2^96) = 594.277; the icce2018 variant has only the 96! permutations."""
        permutations = math.lgamma(NIBBLES + 1) / math.log(2)
        return permutations + (NIBBLES if self.settings.variant == "paper" else 0)

    def derive(self, seed: bytes, height: int, width: int) -> TanakaKey:  # noqa: ARG002 - one key for every size
        permutation = keystream.permutation(seed, "tanaka/permutation", NIBBLES)
        if self.settings.variant == "icce2018":
            return TanakaKey(permutation, permutation > NIBBLES // 2)
        return TanakaKey(permutation, keystream.bits(seed, "tanaka/reversed", NIBBLES))

    def encrypt(self, images: Images, key: TanakaKey) -> Images:
        flips_after = key.reversed if self.settings.variant == "icce2018" else None
        return _shuffle(images, key.permutation, key.reversed, flips_after)

    def decrypt(self, images: Images, key: TanakaKey) -> Images:
        inverse = np.argsort(key.permutation)
        if self.settings.variant == "icce2018":
            return _shuffle(images, inverse, key.reversed, key.reversed)
        return _shuffle(images, inverse, None, key.reversed)

    def key_from_map(self, found: NibblePermutation) -> TanakaKey:
        """In icce2018 the inversions follow from the permutation."""
        permutation = found.place.astype(np.int64)
        if self.settings.variant == "icce2018":
            return TanakaKey(permutation, permutation > NIBBLES // 2)
        flips = np.zeros(NIBBLES, np.bool_)
        flips[found.place] = found.sign < 0
        return TanakaKey(permutation, flips)

    def rule_violations(self, found: NibblePermutation) -> int:
        """Inversions that icce2018 derives otherwise. Its rule applies the permutation to itself."""
        if self.settings.variant == "paper":
            return 0
        place = found.place
        expected = (place > NIBBLES // 2) ^ (place[place] > NIBBLES // 2)
        return int((expected != (found.sign < 0)).sum())

    def key_to_json(self, key: TanakaKey) -> dict[str, Any]:
        return {"permutation": key.permutation.tolist(), "reversed": key.reversed.astype(int).tolist()}

    def key_from_json(self, material: Mapping[str, Any]) -> TanakaKey:
        check_fields(material, {"permutation", "reversed"})
        permutation = parse_permutation(material, "permutation", NIBBLES)
        if self.settings.variant == "icce2018" and material.get("reversed") is None:
            return TanakaKey(permutation, permutation > NIBBLES // 2)
        return TanakaKey(permutation, parse_integers(material, "reversed", NIBBLES, 1).astype(np.bool_))


def nibbles(images: Images) -> npt.NDArray[np.uint8]:
    """Images uint8 [N, H, W, 3], sides multiples of 4 -> nibbles [N, H/4, W/4, 96] in the order of NIBBLES."""
    blocks = to_blocks(images, BLOCK).reshape(
        len(images), images.shape[1] // BLOCK, images.shape[2] // BLOCK, NIBBLES // 2
    )
    return np.concatenate([blocks & 15, blocks >> 4], axis=3)


def from_nibbles(values: npt.NDArray[np.uint8]) -> Images:
    """The inverse of `nibbles`."""
    count, rows, columns, _ = values.shape
    blocks = (values[..., 48:] << np.uint8(4) | values[..., :48]).reshape(count, rows * columns, BLOCK, BLOCK, 3)
    return from_blocks(blocks, (count, rows * BLOCK, columns * BLOCK, 3))


def _shuffle(
    images: Images,
    permutation: npt.NDArray[np.int64],
    before: npt.NDArray[np.bool_] | None,
    after: npt.NDArray[np.bool_] | None,
) -> Images:
    """Output nibble i is input nibble permutation[i], inverted if before[permutation[i]] ^ after[i]."""
    from unveil.models.core import numba_kernels  # imported late: the API imports this module and needs no compiler

    flips = np.zeros(NIBBLES, np.bool_)
    if before is not None:
        flips ^= before[permutation]
    if after is not None:
        flips ^= after
    masks = flips * np.uint8(15)  # 15 - v is v ^ 15
    if numba_kernels.shuffle_nibbles is None:
        return from_nibbles(nibbles(images)[..., permutation] ^ masks)

    check_sides(images, BLOCK)
    words = np.ascontiguousarray(images).reshape(*images.shape[:2], 3 * images.shape[2]).view("<u4")
    out = np.empty_like(words)
    source = permutation[_SLOTS]
    numba_kernels.shuffle_nibbles(
        np.require(words, requirements="A"),
        _WORD[source],
        ((_BIT[_SLOTS] - _BIT[source]) % 32).astype(np.uint32),
        (masks[_SLOTS].astype(np.uint32) << _BIT[_SLOTS]).sum(axis=1, dtype=np.uint32),
        out,
    )
    return out.view(np.uint8).reshape(images.shape)


# A block is twelve 32-bit words. The word and the first bit of each nibble, and the eight nibbles of each word:
_WORD = np.arange(NIBBLES) % 48 // 4
_BIT = (np.arange(NIBBLES) % 4 * 8 + np.arange(NIBBLES) // 48 * 4).astype(np.uint32)
_SLOTS = np.argsort(8 * _WORD + _BIT // 4).reshape(12, 8)
