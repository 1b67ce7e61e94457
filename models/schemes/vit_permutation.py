"""Block scrambling and pixel shuffling for vision transformers (Qi et al. 2022; Nagamori et al. 2024) [R].

With shared keys, a transformer whose patches are the blocks learns from ciphertexts as well as from plain images.
Restricted permutations (Horio et al. 2024, Aso et al. 2024) leave a share of the blocks and values in place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from unveil.models.core import keystream
from unveil.models.core.images import Images
from unveil.models.core.settings_schema import setting
from unveil.models.core.structure import BlockMap
from unveil.models.schemes.base import Scheme
from unveil.models.schemes.block_values import move_values
from unveil.models.schemes.key_json import decode_map, encode_map, parse_permutation, parse_size
from unveil.models.schemes.value_inverse import ValueInverse

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class VitPermutationSettings:
    block: int = setting(8, "Side of a block in pixels: the patch of the vision transformer", minimum=4, maximum=32)
    key_mode: Literal["same", "different"] = setting(
        "same", "same: one key for all images of a size; different: a separate key for each image"
    )
    fixed_blocks: float = setting(
        0.0, "Share of the blocks that stay in place, drawn with the key; 1: blocks do not move", minimum=0, maximum=1
    )
    fixed_values: float = setting(
        0.0, "Share of the values that stay in place in a block; 1: values do not move", minimum=0, maximum=1
    )
    negative_positive: bool = setting(False, "Whether a value of a block is inverted with probability 1/2 as well")

    def __post_init__(self) -> None:
        if self.fixed_blocks == self.fixed_values == 1 and not self.negative_positive:
            raise ValueError("nothing is encrypted if all blocks and all values stay in place")


@dataclass(frozen=True)
class VitPermutationKey:
    """The key for R x C blocks of P x P pixels. A value of a block has the index P * P * channel + P * row + column.

    blocks: int64 [R, C], output block (r, c) is input block blocks[r, c], counted row by row.
    values: int64 [3 * P * P], output value i of each block is input value values[i].
    reversed: bool [3 * P * P], whether an input value is inverted.
    """

    blocks: Integers
    values: Integers
    reversed: npt.NDArray[np.bool_]


class VitPermutation(Scheme[VitPermutationSettings, VitPermutationKey]):
    """Blocks are permuted; the values of each block are permuted by one map, and inverted or not, in all blocks."""

    name = "vit-permutation"
    title = "ViT block and pixel permutation"
    source = "Qi, MaungMaung, Kinoshita, Kiya 2022; Nagamori, Shiota, Kiya 2024; Horio et al. 2024; Aso et al. 2024 [R]"
    Settings = VitPermutationSettings

    @property
    def key_per_image(self) -> bool:
        return self.settings.key_mode == "different"

    @property
    def size_multiple(self) -> int:
        return self.settings.block

    @property
    def structure(self) -> BlockMap:
        settings = self.settings
        return BlockMap(
            settings.block,
            "value",
            blocks_move=settings.fixed_blocks < 1,
            units_move=settings.fixed_values < 1,
            inverts=settings.negative_positive,
        )

    def key_space_bits(self, height: int, width: int) -> float:
        """log2 of the number of pairs of permutations that leave enough in place, and of inversions if there are any.

        Without restrictions log2(B! * D!) for B blocks of D values.
        """
        settings, values = self.settings, 3 * self.settings.block**2
        blocks = (height // settings.block) * (width // settings.block)
        return (
            _log2_permutations(blocks, _count_fixed(settings.fixed_blocks, blocks))
            + _log2_permutations(values, _count_fixed(settings.fixed_values, values))
            + (values if settings.negative_positive else 0)
        )

    def derive(self, seed: bytes, height: int, width: int) -> VitPermutationKey:
        settings, label = self.settings, f"vit-permutation/{self.settings.block}"
        rows, columns, values = height // settings.block, width // settings.block, 3 * settings.block**2
        flips = np.zeros(values, np.bool_)
        if settings.negative_positive:
            flips = keystream.bits(seed, f"{label}/reversed", values)
        return VitPermutationKey(
            _draw_permutation(seed, f"{label}/blocks/{height}x{width}", rows * columns, settings.fixed_blocks).reshape(
                rows, columns
            ),
            _draw_permutation(seed, f"{label}/values", values, settings.fixed_values),
            flips,
        )

    def encrypt(self, images: Images, key: VitPermutationKey) -> Images:
        return move_values(images, key.blocks, _to_raster(key.values), _channels_last(key.reversed))

    def decrypt(self, images: Images, key: VitPermutationKey) -> Images:
        blocks = np.argsort(key.blocks, axis=None).reshape(key.blocks.shape)
        return move_values(images, blocks, _to_raster(np.argsort(key.values)), _channels_last(key.reversed[key.values]))

    def key_size(self, key: VitPermutationKey) -> tuple[int, int]:
        return key.blocks.shape[0] * self.settings.block, key.blocks.shape[1] * self.settings.block

    def key_from_map(self, found: ValueInverse) -> VitPermutationKey:
        index = np.arange(found.values.size).reshape(3, found.side, found.side).transpose(1, 2, 0).ravel()
        values, flips = np.empty_like(index), np.zeros(len(index), np.bool_)
        # The input value index[j] of a block is the output value index[found.values[j]].
        values[index[found.values.ravel()]] = index
        flips[index] = found.negative.ravel()
        return VitPermutationKey(np.argsort(found.blocks, axis=None).reshape(found.blocks.shape), values, flips)

    def rule_violations(self, found: ValueInverse) -> int:
        """How many more blocks and values move than any key moves."""
        key, settings = self.key_from_map(found), self.settings
        shares = ((key.blocks.ravel(), settings.fixed_blocks), (key.values, settings.fixed_values))
        return sum(
            max(0, _count_fixed(share, len(order)) - int((order == np.arange(len(order))).sum()))
            for order, share in shares
        )

    def key_to_json(self, key: VitPermutationKey) -> dict[str, Any]:
        height, width = self.key_size(key)
        flips = {"reversed": encode_map(key.reversed)} if self.settings.negative_positive else {}
        return {
            "width": width,
            "height": height,
            "blocks": key.blocks.ravel().tolist(),
            "values": key.values.tolist(),
            **flips,
        }

    def key_from_json(self, material: Mapping[str, Any]) -> VitPermutationKey:
        side, inverts = self.settings.block, self.settings.negative_positive
        height, width = parse_size(material, {"blocks", "values"} | ({"reversed"} if inverts else set()), side)
        rows, columns, values = height // side, width // side, 3 * side**2
        blocks = parse_permutation(material, "blocks", rows * columns).reshape(rows, columns)
        flips = decode_map(material, "reversed", values, 1) if inverts else np.zeros(values)
        return VitPermutationKey(blocks, parse_permutation(material, "values", values), flips.astype(np.bool_))


def _count_fixed(share: float, count: int) -> int:
    return round(share * count)


def _draw_permutation(seed: bytes, label: str, size: int, fixed_share: float) -> Integers:
    """A uniform permutation of the positions that are left when a uniform choice of positions is fixed."""
    order = keystream.permutation(seed, label, size)
    fixed = _count_fixed(fixed_share, size)
    if not fixed:
        return order
    free = np.sort(keystream.permutation(seed, f"{label}/fixed", size)[fixed:])
    result = np.arange(size)
    result[free] = free[np.argsort(order[free])]
    return result


def _log2_permutations(size: int, fixed: int) -> float:
    """log2 of the number of permutations of `size` elements with at least `fixed` fixed points."""
    if not fixed:
        return math.lgamma(size + 1) / math.log(2)
    logs = []
    for free in range(size - fixed + 1):
        if free == 1:
            continue  # a single element cannot leave its place
        # !n / n!, the share of derangements, converges to 1 / e faster than double precision resolves.
        share = sum((-1) ** i / math.factorial(i) for i in range(min(free, 20) + 1))
        logs.append(math.log(share) - math.lgamma(size - free + 1))
    largest = max(logs)
    total = math.lgamma(size + 1) + largest + math.log(math.fsum(math.exp(value - largest) for value in logs))
    return max(0.0, total / math.log(2))


def _channels_last(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array by the index of values of a block, reordered to their order in memory: rows, columns, channels."""
    side = math.isqrt(len(values) // 3)
    return values.reshape(3, side, side).transpose(1, 2, 0).ravel()


def _to_raster(source: Integers) -> Integers:
    """A permutation of values with both its places and its entries in the order in memory."""
    place = np.empty_like(source)
    place[_channels_last(np.arange(len(source)))] = np.arange(len(source))
    return place[_channels_last(source)]
