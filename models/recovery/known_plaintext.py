"""Exact keys from pairs of plain and protected images [M]."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from unveil.models.core.images import Images
from unveil.models.core.run_context import OnStep
from unveil.models.recovery import pixelwise as alignment
from unveil.models.recovery.tanaka import HALF_NIBBLES
from unveil.models.schemes.pair_solving import InconsistentPairs, SolvedKey, check_pairs
from unveil.models.schemes.pixelwise import PixelwiseKey
from unveil.models.schemes.tanaka import NibblePermutation, nibbles

_MAX_BLOCKS = 20_000  # blocks compared; a few hundred distinguish all nibbles


def pixelwise(
    plain: Images, protected: Images, ciphertexts: Images | None = None, on_step: OnStep = lambda: None
) -> SolvedKey[PixelwiseKey]:
    """The key of pairs uint8 [N, H, W, 3]: the candidate of the 48 at each pixel that is consistent with all pairs.

    If several are consistent (grey or saturated pixels), further `ciphertexts` under the key choose the candidate that
    fits the surrounding pixels best; without ciphertexts the first one is taken. Raises InconsistentPairs, and
    ValueError for arrays that are not pairs.
    """
    check_pairs(plain, protected)
    possible = _possible_candidates(plain, protected)
    count = possible.sum(-1)
    if not count.all():
        share = (count == 0).mean()
        raise InconsistentPairs(f"no pixel-wise key is consistent with the pairs at {100 * share:.1f} % of the pixels")
    candidates: npt.NDArray[np.intp] = possible.argmax(-1)
    if ciphertexts is not None and len(ciphertexts) and (count > 1).any():
        observed = np.concatenate([protected, ciphertexts])
        candidates = alignment.recover_among_candidates(observed, possible, on_step=on_step)
    return SolvedKey(alignment.candidates_to_key(candidates), float((count == 1).mean()))


def _possible_candidates(plain: Images, protected: Images) -> npt.NDArray[np.bool_]:
    """bool [H, W, 48]: whether the candidate decrypts this pixel of every pair."""
    # same[h, w, c, k, s]: plain channel c equals protected channel k, unchanged (s = 0) or inverted (s = 1).
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


def nibble_permutation(plain: Images, protected: Images) -> SolvedKey[NibblePermutation]:
    """The permutation of pairs uint8 [N, H, W, 3], sides multiples of 4, by matching plain and protected nibbles.

    Nibbles that are equal in all blocks are interchangeable: any order of them is consistent with the pairs. Raises
    InconsistentPairs.
    """
    check_pairs(plain, protected)
    inputs = nibbles(plain).reshape(-1, 2 * HALF_NIBBLES)[:_MAX_BLOCKS]
    outputs = nibbles(protected).reshape(-1, 2 * HALF_NIBBLES)[:_MAX_BLOCKS]
    _, number = np.unique(np.concatenate([outputs, inputs, 15 - inputs], axis=1).T, axis=0, return_inverse=True)
    number = number.reshape(3, 2 * HALF_NIBBLES)
    straight = number[0][:, None] == number[1]
    possible = straight | (number[0][:, None] == number[2])
    place = linear_sum_assignment(possible, maximize=True)[1]
    explained = possible[np.arange(2 * HALF_NIBBLES), place]
    if not explained.all():
        raise InconsistentPairs(
            f"no map of the 96 nibbles of a block is consistent with the pairs in {(~explained).sum()} of them"
        )
    sign = np.where(straight[np.arange(2 * HALF_NIBBLES), place], 1, -1).astype(np.int8)
    return SolvedKey(NibblePermutation(place, sign), float((possible.sum(1) == 1).mean()))
