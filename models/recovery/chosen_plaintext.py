"""Exact keys from ciphertexts of images that the attacker chose (SCIENCE section 4) [M].

An oracle takes uint8 [N, H, W, 3] and answers their ciphertexts under the attacked key.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images
from unveil.models.recovery import known_plaintext
from unveil.models.recovery.known_plaintext import InconsistentPairs
from unveil.models.recovery.tanaka import HALF_NIBBLES, NibblePermutation
from unveil.models.schemes.ele import EleKey
from unveil.models.schemes.etc import EtcKey
from unveil.models.schemes.pixelwise import ORDERS, PixelwiseKey
from unveil.models.schemes.tanaka import BLOCK, from_nibbles, nibbles

Oracle = Callable[[Images], Images]
K = TypeVar("K")


@dataclass(frozen=True)
class QueryResult(Generic[K]):
    key: K
    queries: int  # images the oracle encrypted


@dataclass(frozen=True)
class NibbleMap:
    """Where every nibble of an image went: output nibble i (flat, channels last, upper then lower) is input
    nibble source[i], reversed where flipped[i]. Any scheme that moves and reverses nibbles is one of these.
    """

    source: npt.NDArray[np.intp]
    flipped: npt.NDArray[np.bool_]

    def decrypt(self, ciphertexts: Images) -> Images:
        """uint8 [N, H, W, 3] of the size that was asked -> plain images."""
        values = _to_nibbles(ciphertexts) ^ self.flipped * np.uint8(15)
        plain = np.empty_like(values)
        plain[:, self.source] = values
        return _from_nibbles(plain, ciphertexts.shape)


def pixelwise(oracle: Oracle, height: int, width: int) -> QueryResult[PixelwiseKey]:
    """One image that is (1, 2, 3) everywhere. Raises DoNotFit where the answer is of another scheme."""
    query_image = np.broadcast_to(np.array([1, 2, 3], np.uint8), (1, height, width, 3)).copy()
    answer = _query_oracle(oracle, query_image)[0]
    flipped = answer > 127
    source = np.where(flipped, 255 - answer, answer).astype(np.intp) - 1
    if not (np.sort(source, axis=2) == np.arange(3)).all():
        raise InconsistentPairs("the oracle does not answer as pixel-wise encryption would")
    reversals = np.zeros((height, width, 3), np.bool_)
    np.put_along_axis(reversals, source, flipped, axis=2)
    orders = (source[:, :, None] == ORDERS).all(-1).argmax(-1).astype(np.uint8)
    return QueryResult(PixelwiseKey(reversals, orders), 1)


def tanaka(oracle: Oracle, height: int, width: int) -> QueryResult[NibblePermutation]:
    """Three chosen blocks, in one image where it has three: all zero, which shows the reversals; then the number of
    each nibble in base 16. Sides multiples of 4.
    """
    rows, columns = height // BLOCK, width // BLOCK
    index = np.arange(2 * HALF_NIBBLES)
    query_blocks = np.stack([np.zeros_like(index), index % 16, index // 16]).astype(np.uint8)
    images = math.ceil(len(query_blocks) / (rows * columns))
    values = np.zeros((images * rows * columns, 2 * HALF_NIBBLES), np.uint8)
    values[: len(query_blocks)] = query_blocks
    answer = nibbles(_query_oracle(oracle, from_nibbles(values.reshape(images, rows, columns, 2 * HALF_NIBBLES))))
    zero, low, high = answer.reshape(-1, 2 * HALF_NIBBLES)[: len(query_blocks)]
    place = ((high ^ zero).astype(np.intp) << 4) + (low ^ zero)
    if not np.isin(zero, (0, 15)).all() or not (np.sort(place) == index).all():
        raise InconsistentPairs("the oracle does not answer as Tanaka's scheme would")
    return QueryResult(NibblePermutation(place, np.where(zero == 15, -1, 1).astype(np.int8)), images)


def nibble_map(oracle: Oracle, height: int, width: int) -> QueryResult[NibbleMap]:
    """Any scheme that moves and reverses nibbles within an image, block shuffles included, for images of one size.

    One image of zeros shows what is reversed; each further one a digit of every nibble's number in base 16: five
    images up to 65,536 nibbles (96x96 has 55,296). Raises DoNotFit for schemes that do more.
    """
    query_images = _make_numbering_images(height, width)
    zero, *digits = _to_nibbles(_query_oracle(oracle, query_images))
    source = np.zeros(len(zero), np.intp)
    for d, digit in enumerate(digits):
        source += (digit ^ zero).astype(np.intp) << 4 * d
    if not np.isin(zero, (0, 15)).all() or not (np.sort(source) == np.arange(len(zero))).all():
        raise InconsistentPairs("the oracle does more than to move and to reverse nibbles")
    return QueryResult(NibbleMap(source, zero == 15), len(query_images))


def ele(oracle: Oracle, height: int, width: int) -> QueryResult[EleKey]:
    """The images of `nibble_map`, read as pairs: no two nibbles are the same in them. Sides multiples of 4."""
    query_images = _make_numbering_images(height, width)
    return QueryResult(known_plaintext.ele(query_images, _query_oracle(oracle, query_images)).key, len(query_images))


def etc(oracle: Oracle, height: int, width: int) -> QueryResult[EtcKey]:
    """The images of `nibble_map`, read as pairs: no two blocks are the same in them. Sides multiples of 8."""
    query_images = _make_numbering_images(height, width)
    return QueryResult(known_plaintext.etc(query_images, _query_oracle(oracle, query_images)).key, len(query_images))


def _make_numbering_images(height: int, width: int) -> Images:
    """All zero; then the number of each nibble in base 16, the lowest digit first: [1 + digits, H, W, 3]."""
    index = np.arange(height * width * 6)
    digits = max(1, math.ceil(math.log2(len(index)) / 4))
    values = np.stack([np.zeros_like(index), *(index >> 4 * d & 15 for d in range(digits))]).astype(np.uint8)
    return _from_nibbles(values, (len(values), height, width, 3))


def _query_oracle(oracle: Oracle, images: Images) -> Images:
    answer = oracle(images)
    if answer.shape != images.shape:
        raise InconsistentPairs(f"the oracle answers {list(answer.shape)} where {list(images.shape)} was asked")
    return answer


def _to_nibbles(images: Images) -> npt.NDArray[np.uint8]:
    """[N, H, W, 3] -> nibbles [N, H * W * 6]."""
    return np.stack([images >> 4, images & 15], axis=-1).reshape(len(images), -1)


def _from_nibbles(values: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> Images:
    pairs = values.reshape(*shape, 2)
    return pairs[..., 0] << np.uint8(4) | pairs[..., 1]
