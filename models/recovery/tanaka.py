"""Key recovery for both variants of Tanaka's scheme, from ciphertexts and public image statistics [M].

A ciphertext consists of 96 nibble sequences with one value in each block. The key assigns each sequence to a nibble of
the block and inverts some sequences; blocks do not move.

1. Upper nibbles: they correlate with each other, lower nibbles hardly. The leading eigenvector of the correlations
   among the upper nibbles gives their inversions, up to one sign for all.
2. Places: the distances of two sequences (log of the mean squared difference, each block weighted by its smoothness)
   within a block, to the block on the right and to the block below form three 48x48 matrices. Quadratic assignment
   (Frank-Wolfe with Hungarian steps, then pairwise swaps) matches them to the matrices of public photographs.
   Logarithms make the shape of the matrices independent of the roughness of the images.
3. Lower nibbles: the neighbourhood of a pixel predicts its lower nibble. The likelihoods of all sequences at all places
   give the best assignment. Known lower nibbles sharpen the next prediction; three rounds.

The order of the channels and the inversion of the whole image remain undetermined;
`unveil.models.recovery.color_ambiguity` determines them. In the variant icce2018 the rule that derives inversions from
the permutation determines both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from unveil.models.core.blocks import from_blocks
from unveil.models.core.images import Images, check_images
from unveil.models.core.run_context import OnStep
from unveil.models.recovery.quadratic_assignment import frank_wolfe, improve_by_swaps, make_doubly_stochastic, objective
from unveil.models.recovery.tanaka_statistics import TanakaStatistics, load_bundled_statistics
from unveil.models.schemes.tanaka import BLOCK, NibblePermutation, TanakaKey, nibbles

Variant = Literal["paper", "icce2018"]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]

HALF_NIBBLES = 48
LOWER_NIBBLE_ROUNDS = 3  # iterations of step 3
ASSIGNMENT_STARTS = 3  # starting points of the quadratic assignment; the first, the flat matrix, nearly always suffices
_MAX_LOWER_BLOCKS = 6_000  # blocks used for lower nibbles: ten 96x96 images suffice
_MAX_BLOCKS = 60_000  # blocks used for the other steps; bounds time and memory
_TILE_SIDE_BLOCKS = 24  # blocks a side of the tiles into which images of more than _MAX_LOWER_BLOCKS are cut

# Neighbours within two pixels as (rows, columns), grouped by distance; the predictor has one weight for each group.
NEIGHBOURS: tuple[tuple[tuple[int, int], ...], ...] = tuple(
    tuple((y, x) for y in range(-2, 3) for x in range(-2, 3) if sorted((abs(y), abs(x))) == list(kind))
    for kind in ((0, 1), (1, 1), (0, 2), (1, 2), (2, 2))
)
NEIGHBOUR_CLIP = 28.0  # grey levels: a larger difference is no evidence about the lower nibble
PREDICTIONS, PREDICTION_STEP = 41, 0.4  # bins of the predicted lower nibble, -8..8 around its middle
ACTIVITIES = np.array([3.0, 5.0, 7.0, 9.0, 12.0, 16.0])  # bins of the mean absolute neighbour difference


def permutation_from_key(key: TanakaKey, variant: Variant = "paper") -> NibblePermutation:
    """The nibble permutation of a key of either variant."""
    flips = key.reversed[key.permutation]
    if variant == "icce2018":
        flips = flips ^ key.reversed
    return NibblePermutation(key.permutation.astype(np.intp), np.where(flips, -1, 1).astype(np.int8))


def recover_permutation(
    ciphertexts: Images, seed: int = 0, statistics: TanakaStatistics | None = None, on_step: OnStep = lambda: None
) -> NibblePermutation:
    """Ciphertexts uint8 [N, H, W, 3], sides multiples of 4, under one key -> the permutation up to 12 transforms.

    The 12 transforms are the orders of the channels and the inversion. on_step is called every few seconds at most.
    Raises ValueError for another array, for no ciphertexts, and for ciphertexts whose blocks are all equal.
    """
    check_images(ciphertexts, "ciphertexts")
    if not len(ciphertexts):
        raise ValueError("ciphertexts must contain at least one image; got none")
    statistics = statistics or load_bundled_statistics()
    values = _sample_evenly(_cut_tiles(nibbles(ciphertexts)), _MAX_BLOCKS)
    if (values == values[:1, :1, :1]).all():
        raise ValueError("ciphertexts must differ from block to block; all of their blocks are equal")
    on_step()
    upper, sign = _find_upper_nibbles(values)
    on_step()
    signed = (values[..., upper].astype(np.float32) - 7.5) * sign
    place = _match_places(signed, statistics, np.random.default_rng(seed), on_step)
    return _assign_lower_nibbles(_sample_evenly(values, _MAX_LOWER_BLOCKS), upper, sign, place, statistics, on_step)


def _cut_tiles(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Cut the nibbles of large images, [N, rows, columns, 96], into tiles [M, <= 24, <= 24, 96] of one size.

    One large image is as informative as many small ones. The rest at the right and the bottom is dropped.
    """
    count, rows, columns = values.shape[:3]
    if rows * columns <= _MAX_LOWER_BLOCKS:
        return values
    high, wide = min(rows, _TILE_SIDE_BLOCKS), min(columns, _TILE_SIDE_BLOCKS)
    down, across = rows // high, columns // wide
    cropped = values[:, : down * high, : across * wide].reshape(count, down, high, across, wide, 2 * HALF_NIBBLES)
    return cropped.swapaxes(2, 3).reshape(-1, high, wide, 2 * HALF_NIBBLES)


def _sample_evenly(values: npt.NDArray[np.uint8], blocks: int) -> npt.NDArray[np.uint8]:
    """Evenly sampled images [N, rows, columns, 96] of at most `blocks` blocks in total, but at least one image."""
    max_images = max(1, blocks // (values.shape[1] * values.shape[2]))
    return values[np.linspace(0, len(values) - 1, min(max_images, len(values))).astype(int)]


def rule_evidence(
    violations: Callable[[NibblePermutation], int], permutation: NibblePermutation
) -> npt.NDArray[np.float64] | None:
    """Log-likelihoods [12] of the transforms 6 * negative + order, if the keys of a scheme obey a rule.

    violations: counts the entries that break the rule. Such a rule settles inversion and channel order, as colours do
    for other schemes. None: the scheme has no rule.
    """
    broken = np.array([violations(permutation.transform(e % 6, negative=e >= 6)) for e in range(12)])
    if not broken.any():
        return None
    return (2 * HALF_NIBBLES - broken) * np.log(0.9) + broken * np.log(0.1)


# --- 1: upper nibbles and inversions --------------------------------------------------------------------------------


def _correlation(values: Floats) -> npt.NDArray[np.float64]:
    moments = (values.T @ values).astype(np.float64)
    scale = np.sqrt(np.diag(moments)) + 1e-3
    return moments / np.outer(scale, scale)


def _find_upper_nibbles(values: npt.NDArray[np.uint8]) -> tuple[Ints, Floats]:
    """The indices of the 48 upper nibbles and their signs, up to one sign for all.

    The sum of three correlations: each alone fails on some images (plain backgrounds, where lower nibbles repeat;
    channels that are negatively correlated between objects, though hardly ever at an edge).
    """
    # Plain backgrounds repeat a block exactly; count each block once.
    different = np.unique(values.reshape(-1, 2 * HALF_NIBBLES), axis=0).astype(np.float32) - 7.5
    signed = values.astype(np.float32)
    steps = np.concatenate(
        [np.diff(signed, axis=axis).reshape(-1, 2 * HALF_NIBBLES) for axis in (1, 2) if signed.shape[axis] > 1]
        or [np.zeros((1, 2 * HALF_NIBBLES), np.float32)]
    )
    steps /= np.sqrt(20 + (steps**2).mean(1, keepdims=True))  # limits the weight of a single strong edge
    total = _correlation(different - different.mean(0)) + _correlation(different) + _correlation(steps)
    nearest = np.sort(abs(total), axis=0)[-12:-1].sum(0)
    upper = np.sort(np.argsort(-nearest, kind="stable")[:HALF_NIBBLES])
    leading = np.linalg.eigh(total[np.ix_(upper, upper)])[1][:, -1]
    return upper, np.where(leading < 0, -1, 1).astype(np.float32)


# --- 2: places --------------------------------------------------------------------------------------------------------


def log_distances(upper: Floats) -> npt.NDArray[np.float64]:
    """Upper nibbles [N, rows, columns, 48] -> log distances [3, 48, 48]: within a block, to the right, below.

    The matrix of a direction without a second block is zero.
    """
    weight = 1 / (1 + upper.var(-1, keepdims=True))
    result = np.zeros((3, HALF_NIBBLES, HALF_NIBBLES))
    everything = slice(None)
    front, back = slice(None, -1), slice(1, None)
    for i, (first_window, second_window) in enumerate(
        (
            ((everything,), (everything,)),
            ((everything, everything, front), (everything, everything, back)),
            ((everything, front), (everything, back)),
        )
    ):
        a, b = upper[first_window].reshape(-1, HALF_NIBBLES), upper[second_window].reshape(-1, HALF_NIBBLES)
        if not len(a):
            continue
        w = np.sqrt(weight[first_window] * weight[second_window]).reshape(-1, 1)
        squares = (a * a * w).sum(0)[:, None] + (b * b * w).sum(0) - 2 * ((a * w).T @ b)
        result[i] = np.log(np.maximum(squares, 0) / w.sum() + 0.05)
    return result


def _match_places(signed: Floats, statistics: TanakaStatistics, rng: np.random.Generator, on_step: OnStep) -> Ints:
    """The place 0..47 of each of the 48 upper nibbles, up to the order of the channels."""
    a = [m - m.mean() for m in log_distances(signed)]
    b = [m - m.mean() for m in statistics.log_distances]
    flat = np.full((HALF_NIBBLES, HALF_NIBBLES), 1 / HALF_NIBBLES)
    best: tuple[float, Ints] | None = None
    for start in range(ASSIGNMENT_STARTS):
        on_step()
        first = flat if start == 0 else (flat + make_doubly_stochastic(rng.random(flat.shape))) / 2
        place = improve_by_swaps(a, b, frank_wolfe(a, b, first))
        merit = objective(a, b, place)
        if best is None or merit > best[0]:
            best = merit, place
    assert best is not None
    return best[1]


# --- 3: lower nibbles -------------------------------------------------------------------------------------------------


def neighbour_features(middle: Floats, known: Floats) -> tuple[Floats, Floats]:
    """Features of the neighbourhood that predict the lower nibble of each value.

    middle: 16 * upper + 7.5, [N, H, W, 3]; known: the best estimate of the whole value, or `middle`.
    Returns ten features [N, H, W, 3, 10], which change sign when the image is inverted, and the activity [N, H, W, 3].
    """
    height, width = middle.shape[1:3]
    padded = np.pad(known, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    result = np.empty((*middle.shape, 2 * len(NEIGHBOURS)), np.float32)
    activity = np.zeros_like(middle)
    for i, kind in enumerate(NEIGHBOURS):
        same = np.zeros_like(middle)
        across = np.zeros_like(middle)
        for y, x in kind:
            neighbour = padded[:, 2 + y : 2 + y + height, 2 + x : 2 + x + width]
            step = np.clip(neighbour - middle, -NEIGHBOUR_CLIP, NEIGHBOUR_CLIP)
            same += step
            across += np.clip(known - neighbour, -NEIGHBOUR_CLIP, NEIGHBOUR_CLIP)
            if i < 2:
                activity += abs(step)
        result[..., i] = same / len(kind)
        # A channel changes from pixel to pixel as the other two channels do.
        result[..., len(NEIGHBOURS) + i] = (across.sum(-1, keepdims=True) - across) / len(kind)
    return result, activity / np.float32(8)


def digitize_prediction(prediction: Floats, activity: Floats) -> tuple[Ints, Ints]:
    middle = PREDICTIONS // 2
    return (
        np.clip(np.rint(prediction / PREDICTION_STEP) + middle, 0, PREDICTIONS - 1).astype(np.intp),
        np.digitize(activity, ACTIVITIES),
    )


def _assign_lower_nibbles(
    values: npt.NDArray[np.uint8],
    upper: Ints,
    sign: Floats,
    place: Ints,
    statistics: TanakaStatistics,
    on_step: OnStep,
) -> NibblePermutation:
    """Assign the lower nibbles, given sign and place of the upper nibbles."""
    lower = np.setdiff1d(np.arange(2 * HALF_NIBBLES), upper)
    blocks = values.reshape(-1, 2 * HALF_NIBBLES)
    middle = np.empty((len(blocks), HALF_NIBBLES), np.float32)
    middle[:, place] = 16 * (7.5 + sign * (blocks[:, upper].astype(np.float32) - 7.5)) + 7.5
    middle_image = _blocks_to_image(middle, values.shape)
    lower_values = blocks[:, lower]
    # One-hot over the 16 values of each nibble, for a matrix product with the likelihoods.
    hot = (lower_values[:, :, None] == np.arange(16, dtype=np.uint8)).astype(np.float32)  # [blocks, 48, 16]
    hot = np.ascontiguousarray(hot.transpose(1, 0, 2).reshape(HALF_NIBBLES, -1))
    known = middle_image
    lower_places, flips = np.arange(HALF_NIBBLES), np.zeros(HALF_NIBBLES, np.bool_)
    for round_index in range(LOWER_NIBBLE_ROUNDS):
        on_step()
        model = min(round_index, 1)  # 0: neighbours known by upper nibbles, 1: by whole values
        prediction_features, activity = neighbour_features(middle_image, known)
        likelihood = statistics.likelihoods[model][
            digitize_prediction(prediction_features @ statistics.predictors[model], activity)
        ]
        table = _by_place(likelihood, values.shape)  # [48, blocks * 16]
        straight_scores = hot @ table.T
        reversed_scores = hot @ table.reshape(HALF_NIBBLES, -1, 16)[:, :, ::-1].reshape(HALF_NIBBLES, -1).T
        lower_places = linear_sum_assignment(np.maximum(straight_scores, reversed_scores), maximize=True)[1]
        flips = (
            reversed_scores[np.arange(HALF_NIBBLES), lower_places]
            > straight_scores[np.arange(HALF_NIBBLES), lower_places]
        )
        lower_nibbles = np.empty_like(middle)
        lower_nibbles[:, lower_places] = np.where(flips, 15 - lower_values, lower_values)
        known = _blocks_to_image(middle - 7.5 + lower_nibbles, values.shape)
    places, signs = np.empty(2 * HALF_NIBBLES, np.intp), np.empty(2 * HALF_NIBBLES, np.int8)
    places[upper], signs[upper] = HALF_NIBBLES + place, sign.astype(np.int8)
    places[lower], signs[lower] = lower_places, np.where(flips, -1, 1)
    return NibblePermutation(places, signs)


def _blocks_to_image(blocks: Floats, shape: tuple[int, ...]) -> Floats:
    """[blocks, 48] -> [N, H, W, 3]; shape: that of the nibbles, [N, rows, columns, 96]."""
    count, rows, columns, _ = shape
    return from_blocks(
        blocks.reshape(count, rows * columns, BLOCK, BLOCK, 3), (count, rows * BLOCK, columns * BLOCK, 3)
    )


def _by_place(likelihood: Floats, shape: tuple[int, ...]) -> Floats:
    """[N, H, W, 3, 16] -> [48, blocks * 16]."""
    count, rows, columns, _ = shape
    split = likelihood.reshape(count, rows, BLOCK, columns, BLOCK, 3, 16).transpose(2, 4, 5, 0, 1, 3, 6)
    return np.ascontiguousarray(split).reshape(HALF_NIBBLES, -1)
