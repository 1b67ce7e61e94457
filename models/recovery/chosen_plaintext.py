"""Exact keys from the ciphertexts of chosen images [M].

An oracle maps uint8 [N, H, W, 3] to the ciphertexts under the attacked key.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images
from unveil.models.recovery.tanaka import HALF_NIBBLES
from unveil.models.schemes.pair_solving import InconsistentPairs
from unveil.models.schemes.pixelwise import ORDERS, PixelwiseKey
from unveil.models.schemes.tanaka import BLOCK, NibblePermutation, from_nibbles, nibbles

NOISE_BLOCKS_PER_VALUE = 8  # of a linear map: more than unknowns, so that rounding averages out
NOISE_BLOCKS_OF_PERMUTATION = 16  # in which no two of up to 3,072 values are equal

Oracle = Callable[[Images], Images]
K = TypeVar("K")


@dataclass(frozen=True)
class QueryResult(Generic[K]):
    key: K
    queries: int  # the number of images that the oracle encrypted


@dataclass(frozen=True)
class NibbleMap:
    """A permutation with inversions of all nibbles of an image.

    Output nibble i (flat, channels last, upper then lower) is input nibble source[i], inverted if flipped[i]. Every
    scheme that only moves and inverts nibbles has this form.
    """

    source: npt.NDArray[np.intp]
    flipped: npt.NDArray[np.bool_]

    def decrypt(self, ciphertexts: Images) -> Images:
        """Ciphertexts uint8 [N, H, W, 3] of the queried size -> plain images."""
        values = _to_nibbles(ciphertexts) ^ self.flipped * np.uint8(15)
        plain = np.empty_like(values)
        plain[:, self.source] = values
        return _from_nibbles(plain, ciphertexts.shape)


def pixelwise(oracle: Oracle, height: int, width: int) -> QueryResult[PixelwiseKey]:
    """Query one image with every pixel (1, 2, 3). Raises InconsistentPairs if the oracle encrypts otherwise."""
    query_image = np.broadcast_to(np.array([1, 2, 3], np.uint8), (1, height, width, 3)).copy()
    answer = query_oracle(oracle, query_image)[0]
    flipped = answer > 127
    source = np.where(flipped, 255 - answer, answer).astype(np.intp) - 1
    if not (np.sort(source, axis=2) == np.arange(3)).all():
        raise InconsistentPairs("the answer of the oracle is not pixel-wise encryption")
    reversals = np.zeros((height, width, 3), np.bool_)
    np.put_along_axis(reversals, source, flipped, axis=2)
    orders = (source[:, :, None] == ORDERS).all(-1).argmax(-1).astype(np.uint8)
    return QueryResult(PixelwiseKey(reversals, orders), 1)


def nibble_permutation(oracle: Oracle, height: int, width: int) -> QueryResult[NibblePermutation]:
    """Query three blocks: zeros, which show the inversions, then the number of each nibble in base 16.

    One image if it has three blocks; sides multiples of 4. Raises InconsistentPairs if the oracle encrypts otherwise.
    """
    rows, columns = height // BLOCK, width // BLOCK
    index = np.arange(2 * HALF_NIBBLES)
    query_blocks = np.stack([np.zeros_like(index), index % 16, index // 16]).astype(np.uint8)
    images = math.ceil(len(query_blocks) / (rows * columns))
    values = np.zeros((images * rows * columns, 2 * HALF_NIBBLES), np.uint8)
    values[: len(query_blocks)] = query_blocks
    answer = nibbles(query_oracle(oracle, from_nibbles(values.reshape(images, rows, columns, 2 * HALF_NIBBLES))))
    zero, low, high = answer.reshape(-1, 2 * HALF_NIBBLES)[: len(query_blocks)]
    place = ((high ^ zero).astype(np.intp) << 4) + (low ^ zero)
    if not np.isin(zero, (0, 15)).all() or not (np.sort(place) == index).all():
        raise InconsistentPairs("the answer of the oracle does not move and invert the nibbles of each 4x4 block")
    return QueryResult(NibblePermutation(place, np.where(zero == 15, -1, 1).astype(np.int8)), images)


def nibble_map(oracle: Oracle, height: int, width: int) -> QueryResult[NibbleMap]:
    """The map of any scheme that moves and inverts nibbles within an image, block permutations included.

    One image of zeros shows the inversions; each further image shows one base-16 digit of every nibble's number: five
    images up to 65,536 nibbles (96x96 has 55,296). Raises InconsistentPairs for other schemes.
    """
    query_images = make_numbering_images(height, width)
    zero, *digits = _to_nibbles(query_oracle(oracle, query_images))
    source = np.zeros(len(zero), np.intp)
    for d, digit in enumerate(digits):
        source += (digit ^ zero).astype(np.intp) << 4 * d
    if not np.isin(zero, (0, 15)).all() or not (np.sort(source) == np.arange(len(zero))).all():
        raise InconsistentPairs("the oracle does more than move and invert nibbles")
    return QueryResult(NibbleMap(source, zero == 15), len(query_images))


def make_numbering_images(height: int, width: int) -> Images:
    """Zeros, then the number of each nibble in base 16, lowest digit first: uint8 [1 + digits, H, W, 3].

    No two nibbles are equal in all of them, nor are two blocks, so that they determine any key as pairs.
    """
    index = np.arange(height * width * 6)
    digits = max(1, math.ceil(math.log2(len(index)) / 4))
    values = np.stack([np.zeros_like(index), *(index >> 4 * d & 15 for d in range(digits))]).astype(np.uint8)
    return _from_nibbles(values, (len(values), height, width, 3))


def make_value_images(side: int, height: int, width: int) -> Images:
    """Images uint8 [N, H, W, 3] of constant blocks with every value from 0 to 255, which determine a table of values.

    The last image repeats the values from 0.
    """
    rows, columns = height // side, width // side
    count = math.ceil(256 / (rows * columns))
    values = np.arange(count * rows * columns).astype(np.uint8).reshape(count, rows, columns, 1)
    return values.repeat(side, axis=1).repeat(side, axis=2).repeat(3, axis=3)


def make_noise_images(blocks: int, side: int, height: int, width: int) -> Images:
    """Random images uint8 [N, H, W, 3] of at least so many blocks, which determine one map of the values of a block."""
    count = math.ceil(blocks / ((height // side) * (width // side)))
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def query_oracle(oracle: Oracle, images: Images) -> Images:
    """The ciphertexts of chosen images. Raises InconsistentPairs if they have another shape."""
    answer = oracle(images)
    if answer.shape != images.shape:
        raise InconsistentPairs(f"the oracle returned images of shape {list(answer.shape)} for {list(images.shape)}")
    return answer


def _to_nibbles(images: Images) -> npt.NDArray[np.uint8]:
    """[N, H, W, 3] -> nibbles [N, H * W * 6]."""
    return np.stack([images >> 4, images & 15], axis=-1).reshape(len(images), -1)


def _from_nibbles(values: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> Images:
    pairs = values.reshape(*shape, 2)
    return pairs[..., 0] << np.uint8(4) | pairs[..., 1]
