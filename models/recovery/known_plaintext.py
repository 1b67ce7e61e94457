"""Exact keys from pairs of plain and protected images (SCIENCE section 4) [M]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from models.images import Images, check_images
from models.recovery import pixelwise as alignment
from models.recovery.tanaka import HALF, Streams
from models.schemes.pixelwise import PixelwiseKey
from models.schemes.tanaka import nibbles

K = TypeVar("K")

_BLOCKS = 20_000  # of the pairs that are compared; a few hundred tell all streams apart


@dataclass(frozen=True)
class Found(Generic[K]):
    """A key that explains every pair, and how much of it nothing else explains (fraction of pixels or streams)."""

    key: K
    determined: float


class DoNotFit(ValueError):
    """No key of this scheme explains the pairs."""


def pixelwise(plain: Images, protected: Images, ciphertexts: Images | None = None) -> Found[PixelwiseKey]:
    """The key behind pairs uint8 [N, H, W, 3]: of the 48 candidates at every pixel those that explain each pair.

    Where several are left (grey or saturated pixels), further `ciphertexts` under the key decide by how well each fits
    the pixels around it; without any, the first. Raises DoNotFit, and ValueError for pairs that are none.
    """
    _check(plain, protected)
    possible = _possible(plain, protected)
    count = possible.sum(-1)
    if not count.all():
        raise DoNotFit(f"no pixel-wise key explains the pairs at {(count == 0).mean():.1%} of the pixels")
    candidates: npt.NDArray[np.intp] = possible.argmax(-1)
    if ciphertexts is not None and len(ciphertexts) and (count > 1).any():
        candidates = alignment.refine(np.concatenate([protected, ciphertexts]), candidates, possible)
    return Found(alignment.key_of(candidates), float((count == 1).mean()))


def _possible(plain: Images, protected: Images) -> npt.NDArray[np.bool_]:
    """[H, W, 48]: whether a candidate turns every protected image into its plain one."""
    # same[h, w, c, k, s]: plain channel c is protected channel k, as it is (s = 0) or reversed.
    same = np.empty((*plain.shape[1:], 3, 2), np.bool_)
    for c in range(3):
        for k in range(3):
            difference = plain[..., c] ^ protected[..., k]
            same[..., c, k, 0] = (difference == 0).all(0)
            same[..., c, k, 1] = (difference == 255).all(0)
    orders, flips = alignment.CANDIDATE_ORDERS, (alignment.CANDIDATE_SIGNS < 0).astype(np.intp)
    possible = np.ones((*plain.shape[1:3], len(orders)), np.bool_)
    for c in range(3):
        possible &= same[:, :, c, orders[:, c], flips[:, c]]
    return possible


def tanaka(plain: Images, protected: Images) -> Found[Streams]:
    """The streams behind pairs uint8 [N, H, W, 3], sides multiples of 4: which plain nibble equals which protected one.

    Streams that are equal all over the pairs are told apart by no pair; any order of them explains the pairs.
    """
    _check(plain, protected)
    inputs = nibbles(plain).reshape(-1, 2 * HALF)[:_BLOCKS]
    outputs = nibbles(protected).reshape(-1, 2 * HALF)[:_BLOCKS]
    _, number = np.unique(np.concatenate([outputs, inputs, 15 - inputs], axis=1).T, axis=0, return_inverse=True)
    number = number.reshape(3, 2 * HALF)
    straight = number[0][:, None] == number[1]
    possible = straight | (number[0][:, None] == number[2])
    place = linear_sum_assignment(possible, maximize=True)[1]
    explained = possible[np.arange(2 * HALF), place]
    if not explained.all():
        raise DoNotFit(f"no key of Tanaka's scheme explains the pairs in {(~explained).sum()} of the 96 nibbles")
    sign = np.where(straight[np.arange(2 * HALF), place], 1, -1).astype(np.int8)
    return Found(Streams(place, sign), float((possible.sum(1) == 1).mean()))


def _check(plain: Images, protected: Images) -> None:
    check_images(plain, "plain")
    check_images(protected, "protected")
    if plain.shape != protected.shape:
        raise ValueError(f"each plain image needs its ciphertext; got {list(plain.shape)} and {list(protected.shape)}")
    if not len(plain):
        raise ValueError("at least one pair is needed; got none")
