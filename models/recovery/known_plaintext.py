"""Exact keys from pairs of plain and protected images [M]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from unveil.models.core.images import Images, check_images
from unveil.models.recovery import pixelwise as alignment
from unveil.models.recovery.tanaka import HALF_NIBBLES, NibblePermutation
from unveil.models.schemes.ele import EleKey
from unveil.models.schemes.etc import BLOCK as ETC_BLOCK
from unveil.models.schemes.etc import Etc, EtcKey, EtcSettings
from unveil.models.schemes.pixelwise import PixelwiseKey
from unveil.models.schemes.tanaka import nibbles

K = TypeVar("K")

_MAX_PAIRS_PER_CODE = 15  # pairs whose nibbles fit into a 64-bit code
_MAX_BLOCKS = 20_000  # blocks compared; a few hundred distinguish all nibbles


@dataclass(frozen=True)
class RecoveredKey(Generic[K]):
    """A key consistent with every pair, and the share of its pixels, nibbles or blocks that the pairs determine."""

    key: K
    determined: float


class InconsistentPairs(ValueError):
    """No key of this scheme is consistent with the pairs."""


def pixelwise(plain: Images, protected: Images, ciphertexts: Images | None = None) -> RecoveredKey[PixelwiseKey]:
    """The key of pairs uint8 [N, H, W, 3]: the candidate of the 48 at each pixel that is consistent with all pairs.

    If several are consistent (grey or saturated pixels), further `ciphertexts` under the key choose the candidate that
    fits the surrounding pixels best; without ciphertexts the first one is taken. Raises InconsistentPairs, and
    ValueError for arrays that are not pairs.
    """
    _check_pairs(plain, protected)
    possible = _possible_candidates(plain, protected)
    count = possible.sum(-1)
    if not count.all():
        share = (count == 0).mean()
        raise InconsistentPairs(f"no pixel-wise key is consistent with the pairs at {share:.1%} of the pixels")
    candidates: npt.NDArray[np.intp] = possible.argmax(-1)
    if ciphertexts is not None and len(ciphertexts) and (count > 1).any():
        candidates = alignment.recover_among_candidates(np.concatenate([protected, ciphertexts]), possible)
    return RecoveredKey(alignment.candidates_to_key(candidates), float((count == 1).mean()))


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


def tanaka(plain: Images, protected: Images) -> RecoveredKey[NibblePermutation]:
    """The permutation of pairs uint8 [N, H, W, 3], sides multiples of 4, by matching plain and protected nibbles.

    Nibbles that are equal in all blocks are interchangeable: any order of them is consistent with the pairs. Raises
    InconsistentPairs.
    """
    _check_pairs(plain, protected)
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
            f"no key of Tanaka's scheme is consistent with the pairs in {(~explained).sum()} of the 96 nibbles"
        )
    sign = np.where(straight[np.arange(2 * HALF_NIBBLES), place], 1, -1).astype(np.int8)
    return RecoveredKey(NibblePermutation(place, sign), float((possible.sum(1) == 1).mean()))


def ele(plain: Images, protected: Images) -> RecoveredKey[EleKey]:
    """ELE: match blocks by their sets of nibble codes, then each nibble by its code over at most 15 pairs.

    One pair determines hardly any nibble; photographs need about ten pairs for all but their flat regions. Raises
    InconsistentPairs.
    """
    _check_pairs(plain, protected)
    inputs, outputs = nibbles(plain[:_MAX_PAIRS_PER_CODE]), nibbles(protected[:_MAX_PAIRS_PER_CODE])
    rows, columns = inputs.shape[1:3]
    (source, canonical), (target, scrambled) = _nibble_codes(inputs), _nibble_codes(outputs)
    # Matching blocks have the same set of codes, so sorting the codes matches the nibbles.
    from_order, to_order = (np.argsort(codes, axis=1, kind="stable") for codes in (canonical, scrambled))
    before, after = np.take_along_axis(canonical, from_order, 1), np.take_along_axis(scrambled, to_order, 1)
    blocks, is_unique = _match_labels(list(map(bytes, before)), list(map(bytes, after)))
    place = np.empty((rows * columns, 2 * HALF_NIBBLES), np.intp)
    flips = np.zeros((rows * columns, 2 * HALF_NIBBLES), np.bool_)
    output_places = np.empty_like(place)
    output_places[blocks] = to_order  # by input block
    np.put_along_axis(place, output_places, from_order, axis=1)
    unshuffled = np.empty_like(target)
    unshuffled[blocks] = target
    moved = np.take_along_axis(source, place, 1) != unshuffled
    np.put_along_axis(flips, place, moved, axis=1)
    first, last = np.ones((len(before), 1), np.bool_), before[:, 1:] != before[:, :-1]
    clear = np.concatenate([first, last], 1) & np.concatenate([last, first], 1)
    shape = (rows, columns, 2 * HALF_NIBBLES)
    key = EleKey(place.astype(np.uint8).reshape(shape), flips.reshape(shape), blocks)
    return RecoveredKey(key, float((clear[blocks] & is_unique[:, None]).mean()))


def etc(plain: Images, protected: Images) -> RecoveredKey[EtcKey]:
    """EtC: find each protected block among the 96 versions of all plain blocks. Flat blocks remain ambiguous."""
    _check_pairs(plain, protected)
    scheme = Etc(EtcSettings())
    rows, columns = plain.shape[1] // ETC_BLOCK, plain.shape[2] // ETC_BLOCK
    count = rows * columns
    versions = []
    for element in range(96):
        rotation, flip, order = element // 12, element // 6 % 2, element % 6
        ones = np.ones((rows, columns), np.uint8)
        key = EtcKey(rotation * ones, (flip * ones).astype(np.bool_), order * ones, np.arange(count))
        versions.append(_block_bytes(scheme.encrypt(plain, key)))
    target_tiles = _block_bytes(protected)
    canonical = [min(same) for same in zip(*versions, strict=True)]
    member = {version: canonical[block] for same in versions for block, version in enumerate(same)}
    blocks, is_unique = _match_labels(canonical, [member.get(tile, tile) for tile in target_tiles])
    elements, clear = np.zeros(count, np.uint8), np.zeros(count, np.bool_)
    for i, block in enumerate(blocks):
        fitting = [element for element in range(96) if versions[element][block] == target_tiles[i]]
        elements[block], clear[i] = fitting[0], len(fitting) == 1
    turns, colours = np.divmod(elements.reshape(rows, columns), np.uint8(12))
    flips, orders = np.divmod(colours, np.uint8(6))
    return RecoveredKey(EtcKey(turns, flips.astype(np.bool_), orders, blocks), float((clear & is_unique).mean()))


def _nibble_codes(values: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Nibbles [N, rows, columns, 96] -> codes uint64 [blocks, 96] over the pairs, and their canonical form.

    The canonical code is the smaller of the code and the code of the inverted nibble.
    """
    digits = values.reshape(len(values), -1, 2 * HALF_NIBBLES).astype(np.uint64)
    codes = np.zeros(digits.shape[1:], np.uint64)
    for digit in digits:
        codes = codes * np.uint64(16) + digit
    return codes, np.minimum(codes, np.uint64(16 ** len(values) - 1) - codes)


def _match_labels(inputs: list[bytes], outputs: list[bytes]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Match each output to an unused input with its label -> input indices, and whether the label is unique."""
    unmatched: dict[bytes, list[int]] = {}
    for i, label in reversed(list(enumerate(inputs))):
        unmatched.setdefault(label, []).append(i)
    is_unique = np.array([len(unmatched.get(label, ())) == 1 for label in outputs])
    matches = [unmatched[label].pop() if unmatched.get(label) else -1 for label in outputs]
    if -1 in matches:
        raise InconsistentPairs(
            f"no key of this scheme is consistent with the pairs in {matches.count(-1)} of {len(matches)} blocks"
        )
    return np.array(matches, np.int64), is_unique


def _block_bytes(images: Images) -> list[bytes]:
    """The bytes of each 8x8 block over all images."""
    count, height, width, _ = images.shape
    split = images.reshape(count, height // ETC_BLOCK, ETC_BLOCK, width // ETC_BLOCK, ETC_BLOCK, 3)
    return [tile.tobytes() for tile in split.transpose(1, 3, 0, 2, 4, 5).reshape(-1, count * 3 * ETC_BLOCK**2)]


def _check_pairs(plain: Images, protected: Images) -> None:
    check_images(plain, "plain")
    check_images(protected, "protected")
    if plain.shape != protected.shape:
        raise ValueError(f"each plain image needs its ciphertext; got {list(plain.shape)} and {list(protected.shape)}")
    if not len(plain):
        raise ValueError("at least one pair is needed; got none")
