"""Exact keys from pairs of plain and protected images [M]."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from unveil.models.core.blocks import to_blocks
from unveil.models.core.images import Images
from unveil.models.core.run_context import OnStep
from unveil.models.core.structure import BlockMap
from unveil.models.recovery import pixelwise as alignment
from unveil.models.recovery.tanaka import HALF_NIBBLES
from unveil.models.schemes.block_inverse import Integers
from unveil.models.schemes.pair_solving import InconsistentPairs, SolvedKey, check_pairs, match_labels
from unveil.models.schemes.pixelwise import PixelwiseKey
from unveil.models.schemes.tanaka import NibblePermutation, nibbles
from unveil.models.schemes.value_inverse import ValueInverse

_MAX_BLOCKS = 20_000  # blocks compared; a few hundred distinguish all nibbles and values


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


def value_map(plain: Images, protected: Images, structure: BlockMap) -> SolvedKey[ValueInverse]:
    """The order of the blocks and the one map of their values, of pairs uint8 [N, H, W, 3], sides multiples of a block.

    Blocks and values that are equal in all pairs are interchangeable: any order of them is consistent with the pairs.
    Raises InconsistentPairs.
    """
    check_pairs(plain, protected)
    side = structure.side
    inputs, outputs = (
        to_blocks(images, side).reshape(len(images), -1, 3 * side**2).swapaxes(0, 1) for images in (plain, protected)
    )  # [blocks, N, values]
    order, clear = np.arange(len(inputs)), np.ones(len(inputs), np.bool_)
    if structure.blocks_move:
        # Whatever moves and inverts values keeps how far each is from the middle.
        order, clear = match_labels(*(_block_labels(np.sort(np.minimum(b, ~b), axis=2)) for b in (outputs, inputs)))
    if not clear.any():
        raise ValueError("the blocks of the pairs are too alike to tell which of them moved where")
    known = [blocks.reshape(-1, 3 * side**2)[:_MAX_BLOCKS] for blocks in (inputs[clear], outputs[order[clear]])]
    values, negative, is_unique = _match_values(*known, units_move=structure.units_move)
    if structure.blocks_move:
        read = outputs[:, :, values] ^ (negative * np.uint8(255))
        order, clear = match_labels(_block_labels(read), _block_labels(inputs))
    rows, columns = plain.shape[1] // side, plain.shape[2] // side
    shape = (side, side, 3)
    inverse = ValueInverse(side, order.reshape(rows, columns), values.reshape(shape), negative.reshape(shape))
    moved = [clear] * structure.blocks_move + [is_unique] * structure.units_move
    return SolvedKey(inverse, float(np.concatenate(moved).mean()) if moved else 1.0)


def _block_labels(blocks: Images) -> list[bytes]:
    """[blocks, N, values] -> the bytes of each block in all images."""
    return [block.tobytes() for block in blocks]


def _match_values(
    inputs: Images, outputs: Images, *, units_move: bool
) -> tuple[Integers, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Values of the same blocks [M, D] -> for each input the output, whether it is inverted, and whether it is unique.

    Raises InconsistentPairs.
    """
    values, is_unique = np.arange(inputs.shape[1]), np.ones(inputs.shape[1], np.bool_)
    if units_move:
        labels = [[min(c.tobytes(), (~c).tobytes()) for c in part.T] for part in (outputs, inputs)]
        values, is_unique = match_labels(*labels)
    flips = inputs ^ outputs[:, values]
    if not np.isin(flips[0], (0, 255)).all() or (flips != flips[0]).any():
        raise InconsistentPairs("no choice of inverted values is consistent with the pairs")
    return values, flips[0] == 255, is_unique
