"""Encryption-then-compression, EtC (Kurihara et al. 2015; paper reference 7) [R]: scrambling of 8x8 blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unveil.models.core import keystream
from unveil.models.core.blocks import from_blocks, to_blocks
from unveil.models.core.images import Images
from unveil.models.core.structure import BlockScramble
from unveil.models.schemes.base import NoSettings, Scheme
from unveil.models.schemes.block_inverse import (
    INVERSE_SYMMETRIES,
    ORDER_NUMBERS,
    BlockInverse,
    apply_symmetries,
    permute_channels,
)
from unveil.models.schemes.key_json import decode_map, encode_map, parse_permutation, parse_size
from unveil.models.schemes.pair_solving import SolvedKey, check_pairs, match_labels
from unveil.models.schemes.pixelwise import INVERSE_ORDERS, ORDERS

BLOCK = 8  # pixels a side: a JPEG block, which keeps protected images compressible


@dataclass(frozen=True)
class EtcKey:
    """The key for R x C blocks of 8x8 pixels; maps are indexed by input block.

    turns: uint8 [R, C] in 0..7, quarter turns, plus 4 if the block is mirrored before; reversed: bool [R, C], whether
    the block is inverted; orders: uint8 [R, C] in 0..5, channel orders as in pixel-wise encryption; blocks: int64
    [R * C], output block i is input block blocks[i].
    """

    turns: npt.NDArray[np.uint8]
    reversed: npt.NDArray[np.bool_]
    orders: npt.NDArray[np.uint8]
    blocks: npt.NDArray[np.int64]


class Etc(Scheme[NoSettings, EtcKey]):
    """Each 8x8 block is rotated, mirrored and inverted or not, and its channels permuted; then blocks are permuted."""

    name = "etc"
    title = "EtC"
    source = "Kurihara, Shiota, Kiya 2015; Chuman et al. 2019 [R]"

    @property
    def size_multiple(self) -> int:
        return BLOCK

    @property
    def structure(self) -> BlockScramble:
        return BlockScramble(BLOCK)

    def key_space_bits(self, height: int, width: int) -> float:
        """log2((8 * 2 * 6)^B * B!) for B blocks."""
        count = (height // BLOCK) * (width // BLOCK)
        return count * math.log2(96) + math.lgamma(count + 1) / math.log(2)

    def derive(self, seed: bytes, height: int, width: int) -> EtcKey:
        rows, columns, label = height // BLOCK, width // BLOCK, f"etc/{height}x{width}"
        codes = keystream.uniform_integers(seed, f"{label}/elements", 96, rows * columns).reshape(rows, columns)
        turns, colours = np.divmod(codes, np.uint8(12))
        flips, orders = np.divmod(colours, np.uint8(6))
        blocks = keystream.permutation(seed, f"{label}/blocks", rows * columns)
        return EtcKey(turns, flips.astype(np.bool_), orders, blocks)

    def encrypt(self, images: Images, key: EtcKey) -> Images:
        blocks = apply_symmetries(to_blocks(images, BLOCK), key.turns.ravel())
        blocks = blocks ^ (key.reversed.ravel() * np.uint8(255))[:, None, None, None]
        blocks = permute_channels(blocks, ORDERS[key.orders.ravel()])
        return from_blocks(blocks[:, key.blocks], images.shape)

    def decrypt(self, images: Images, key: EtcKey) -> Images:
        blocks = to_blocks(images, BLOCK)[:, np.argsort(key.blocks)]
        blocks = permute_channels(blocks, INVERSE_ORDERS[key.orders.ravel()])
        blocks = blocks ^ (key.reversed.ravel() * np.uint8(255))[:, None, None, None]
        return from_blocks(apply_symmetries(blocks, INVERSE_SYMMETRIES[key.turns.ravel()]), images.shape)

    def key_size(self, key: EtcKey) -> tuple[int, int]:
        return key.turns.shape[0] * BLOCK, key.turns.shape[1] * BLOCK

    def key_to_json(self, key: EtcKey) -> dict[str, Any]:
        height, width = self.key_size(key)
        return {
            "width": width,
            "height": height,
            "turns": encode_map(key.turns),
            "reversed": encode_map(key.reversed),
            "orders": encode_map(key.orders),
            "blocks": key.blocks.tolist(),
        }

    def key_from_json(self, material: Mapping[str, Any]) -> EtcKey:
        height, width = parse_size(material, {"turns", "reversed", "orders", "blocks"}, BLOCK)
        shape = (height // BLOCK, width // BLOCK)
        count = shape[0] * shape[1]
        return EtcKey(
            decode_map(material, "turns", count, 7).reshape(shape),
            decode_map(material, "reversed", count, 1).astype(np.bool_).reshape(shape),
            decode_map(material, "orders", count, 5).reshape(shape),
            parse_permutation(material, "blocks", count),
        )

    def key_from_map(self, found: BlockInverse) -> EtcKey:
        inverse_orders = np.array([ORDER_NUMBERS[tuple(order)] for order in INVERSE_ORDERS.tolist()], np.uint8)
        return EtcKey(
            INVERSE_SYMMETRIES[found.symmetries],
            found.negative,
            inverse_orders[found.orders],
            np.argsort(found.blocks.ravel()),
        )

    def solve_pairs(self, plain: Images, protected: Images) -> SolvedKey[EtcKey]:
        """Find each protected block among the 96 versions of all plain blocks. Flat blocks remain ambiguous."""
        check_pairs(plain, protected)
        rows, columns = plain.shape[1] // BLOCK, plain.shape[2] // BLOCK
        count = rows * columns
        versions = []
        for element in range(96):
            rotation, flip, order = element // 12, element // 6 % 2, element % 6
            ones = np.ones((rows, columns), np.uint8)
            key = EtcKey(rotation * ones, (flip * ones).astype(np.bool_), order * ones, np.arange(count))
            versions.append(_block_bytes(self.encrypt(plain, key)))
        target_tiles = _block_bytes(protected)
        canonical = [min(same) for same in zip(*versions, strict=True)]
        member = {version: canonical[block] for same in versions for block, version in enumerate(same)}
        blocks, is_unique = match_labels(canonical, [member.get(tile, tile) for tile in target_tiles])
        elements, clear = np.zeros(count, np.uint8), np.zeros(count, np.bool_)
        for i, block in enumerate(blocks):
            fitting = [element for element in range(96) if versions[element][block] == target_tiles[i]]
            elements[block], clear[i] = fitting[0], len(fitting) == 1
        turns, colours = np.divmod(elements.reshape(rows, columns), np.uint8(12))
        flips, orders = np.divmod(colours, np.uint8(6))
        return SolvedKey(EtcKey(turns, flips.astype(np.bool_), orders, blocks), float((clear & is_unique).mean()))


def _block_bytes(images: Images) -> list[bytes]:
    """The bytes of each 8x8 block over all images."""
    return [block.tobytes() for block in to_blocks(images, BLOCK).swapaxes(0, 1)]
