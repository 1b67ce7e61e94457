"""The places of the values of a block that one permutation moved in all blocks, from second-order statistics [M].

The colours of a pixel are its values with the largest partial correlations. The grey pixels are then placed so that
their mean squared differences grow in proportion to their distances, as in natural images: this law is the whole
public knowledge. The idea that covariances reveal the topology of images is by Le Roux et al. (2007). Neighbouring
pixels show each other's channel orders. What remains is one symmetry of the block and one channel order for all.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from unveil.models.core.run_context import OnStep
from unveil.models.recovery.channel_orders import recover_channel_orders
from unveil.models.recovery.quadratic_assignment import (
    Ints,
    frank_wolfe,
    improve_by_swaps,
    make_doubly_stochastic,
    objective,
)
from unveil.models.schemes.block_inverse import SYMMETRIES, apply_symmetry
from unveil.models.schemes.pixelwise import ORDERS

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

MAX_BLOCKS = 10_000  # blocks used; bounds time and memory
_FLAT_VARIANCE = (
    200.0  # grey levels squared: a block counts by the inverse of its variance plus this, so edges count less
)
_RIDGE = 0.001  # added to the correlation matrix before its inversion
_NEAREST = 6  # values of which a value may form a pixel with any two
_NOISE = 0.3  # variance of the noise of a pixel, against a mean squared difference of 1 between neighbours
_ANGLES = 18  # rotations of the principal coordinates, over a quarter turn
_SEEDS = 6  # of them, the best that are refined
_SEED_WEIGHT = 0.5  # of a seed in the start of the refinement, against a flat matrix
_RESTARTS = 20  # refinements from disturbed versions of the best places
_DISTURBANCE = 2.0  # pixels: how far a restart moves places
_MAX_RESTART_PIXELS = 144  # larger blocks have enough pixels to need no restarts, which would take seconds
_ITERATIONS = 8  # of a refinement; one near the solution takes up to five
_SWAPS = 60


def recover_value_places(
    values: npt.NDArray[np.uint8],
    side: int,
    seed: int = 0,
    on_step: OnStep = lambda: None,
    grid: tuple[int, int] | None = None,
) -> Ints:
    """Permuted blocks uint8 [N, 3 * side * side] -> the place of each value in (row, column, channel) order.

    grid: the rows and columns of the blocks of an image, if blocks stay in place; then their neighbours count as well.
    The places are right up to one order of the channels and, without a grid, one symmetry of the square. on_step is
    called every second at most. Raises ValueError for no blocks and for blocks that are all equal.
    """
    if not len(values) or (values == values[:1]).all():
        raise ValueError("ciphertexts must differ from block to block; all of their blocks are equal")
    sampled = values[np.linspace(0, len(values) - 1, min(MAX_BLOCKS, len(values))).astype(int)]
    centred = sampled.astype(np.float32) - np.float32(127.5)
    weights = 1 / (_FLAT_VARIANCE + centred.var(1, keepdims=True))
    on_step()
    pixels = group_pixels(centred, weights)
    grey = centred[:, pixels].mean(-1)
    if grid is None or len(sampled) < len(values):
        differences = _mean_squared_differences(grey, grey, weights)[None]
    else:
        differences = _differences_with_neighbours(grey.reshape(-1, *grid, side * side), weights.reshape(-1, *grid, 1))
    places = place_pixels(differences, side, np.random.default_rng(seed), on_step)
    upright = np.empty((len(centred), side * side, 3), np.float32)
    upright[:, places] = (centred[:, pixels] - grey[..., None]) * np.sqrt(weights)[..., None]
    orders = recover_channel_orders(upright.reshape(-1, side, side, 3), 1).ravel()
    result = np.empty(values.shape[1], np.intp)
    # Plain channel c of a pixel is the value ORDERS[order][c] of its group.
    result[np.take_along_axis(pixels, ORDERS[orders[places]].astype(np.intp), axis=1)] = 3 * places[
        :, None
    ] + np.arange(3)
    return result


def group_pixels(centred: Floats, weights: Floats) -> Ints:
    """Values [N, 3 * P] with the weights of the blocks, [N, 1] -> the values of each pixel, [P, 3]."""
    scaled = (centred - centred.mean(0)) * np.sqrt(weights)
    covariance = (scaled.T @ scaled).astype(np.float64)
    scale = 1 / np.sqrt(np.maximum(np.diag(covariance), 1e-9))
    correlation = covariance * scale[:, None] * scale
    precision = np.linalg.inv(correlation + _RIDGE * np.eye(len(correlation)))
    scale = 1 / np.sqrt(np.diag(precision))
    partial = -precision * scale[:, None] * scale
    np.fill_diagonal(partial, -np.inf)
    nearest = np.argsort(-partial, axis=1, kind="stable")[:, :_NEAREST]
    partners = np.stack(np.triu_indices(nearest.shape[1], 1), axis=1)
    first = np.repeat(np.arange(len(partial)), len(partners))
    second, third = nearest[:, partners].reshape(-1, 2).T
    strength = partial[first, second] + partial[first, third] + partial[second, third]
    triples = np.stack([first, second, third], axis=1)
    unused = np.ones(len(partial), np.bool_)
    pixels = []
    for triple in triples[np.argsort(-strength, kind="stable")]:
        if unused[triple].all():
            unused[triple] = False
            pixels.append(triple)
    while unused.any():  # values whose partners were taken: the best triple of what is left
        rest = np.flatnonzero(unused)
        own = partial[rest[0], rest]
        total = own[:, None] + own + partial[np.ix_(rest, rest)]
        i, j = np.unravel_index(total.argmax(), total.shape)
        pixels.append(rest[[0, i, j]])
        unused[pixels[-1]] = False
    return np.array(pixels)


def _mean_squared_differences(first: Floats, second: Floats, weights: Floats) -> Doubles:
    """Between pixels of one block and pixels of another, of pixels [N, P] with weights [N, 1] -> [P, P]."""
    total = max(float(weights.sum()), 1e-9)
    squares = [(pixels**2 * weights).sum(0, dtype=np.float64) / total for pixels in (first, second)]
    products = ((first * weights).T @ second).astype(np.float64) / total
    return np.maximum(squares[0][:, None] + squares[1] - 2 * products, 0)


def _differences_with_neighbours(grey: Floats, weights: Floats) -> Doubles:
    """Pixels [N, R, C, P], weights [N, R, C, 1] -> [3, P, P]: within a block, with the block to the right, below."""

    def between(first: tuple[slice, ...], second: tuple[slice, ...]) -> Doubles:
        pixels = (grey[first].reshape(-1, grey.shape[-1]), grey[second].reshape(-1, grey.shape[-1]))
        return _mean_squared_differences(*pixels, np.sqrt(weights[first] * weights[second]).reshape(-1, 1))

    everything, front, back = slice(None), slice(None, -1), slice(1, None)
    return np.stack(
        [
            between((everything,), (everything,)),
            between((everything, everything, front), (everything, everything, back)),
            between((everything, front), (everything, back)),
        ]
    )


def place_pixels(differences: Doubles, side: int, rng: np.random.Generator, on_step: OnStep = lambda: None) -> Ints:
    """Mean squared differences of pixels [1 or 3, P, P], P = side * side -> the place of each in row order.

    Within a block, and if there are three with the blocks to the right and below; without these, places are right up to
    a symmetry. They maximise the likelihood of a Gaussian field whose mean squared differences are proportional to
    distance.
    """
    grid = np.stack(np.divmod(np.arange(side * side), side), axis=1)
    distance = np.sqrt(((grid[:, None] - grid) ** 2).sum(-1))
    scaled = differences / max(float(differences[0].mean()), 1e-9)
    a = list(scaled.astype(np.float32))
    b = [precision.astype(np.float32) for precision in _precisions(grid, side, with_neighbours=len(a) > 1)]
    scaled = scaled[0]
    flat = np.float32(1 / len(grid))
    candidates: list[tuple[float, Ints]] = []

    def refine(start: Floats) -> None:
        on_step()
        found = improve_by_swaps(a, b, frank_wolfe(a, b, start, _ITERATIONS), _SWAPS)
        candidates.append((objective(a, b, found), found))

    seeds = [_to_grid(coordinates, grid) for coordinates in _rotated_coordinates(scaled)]
    if len(a) > 1:
        seeds = [turned[place] for place in seeds for turned in _symmetries(side)]
    seeds.sort(key=lambda place: -objective(a, b, place))
    for seed_place in seeds[:_SEEDS]:
        start = np.full(distance.shape, (1 - _SEED_WEIGHT) * flat, np.float32)
        start[np.arange(len(grid)), seed_place] += _SEED_WEIGHT
        refine(start)
        best, *others = sorted((value for value, _ in candidates), reverse=True)
        if len(grid) > _MAX_RESTART_PIXELS and others and best - others[0] < 1e-6 * abs(best):
            break  # two seeds agree
    nearby = np.exp(-((distance / _DISTURBANCE) ** 2) / 2)
    for _ in range(_RESTARTS if len(grid) <= _MAX_RESTART_PIXELS else 0):
        disturbed = nearby[max(candidates, key=lambda c: c[0])[1]] * rng.random(distance.shape) ** 2
        refine(make_doubly_stochastic(disturbed, 5).astype(np.float32))
    return max(candidates, key=lambda candidate: candidate[0])[1]


def _precisions(grid: Ints, side: int, *, with_neighbours: bool) -> list[Doubles]:
    """Of the pixels of a block [P, P], and with the block to the right and with the one below.

    The mean squared differences D of a Gaussian field with the precision Q have the log-likelihood sum(D * Q) / 4.
    """
    count = len(grid)
    if not with_neighbours:
        own, others = _precision(grid), list[Doubles]()
    else:
        # A field of the block and its neighbour to the right, and one with the neighbour below.
        right, below = (_precision(np.concatenate([grid, grid + step])) for step in ((0, side), (side, 0)))
        both = right + below
        own, others = both[:count, :count] + both[count:, count:], [2 * f[:count, count:] for f in (right, below)]
    np.fill_diagonal(own, 0)  # meets only zeros
    return [own, *others]


def _precision(points: Ints) -> Doubles:
    """Of a Gaussian field whose mean squared differences are the distances of its points [P, 2]."""
    distance = np.sqrt(((points[:, None] - points) ** 2).sum(-1))
    return np.asarray(np.linalg.pinv(-_centre(distance) / 2 + _NOISE * np.eye(len(points))), np.float64)


def _symmetries(side: int) -> list[Ints]:
    """The place to which each symmetry of the square moves a place."""
    index = np.arange(side * side).reshape(side, side, 1)
    return [apply_symmetry(index, symmetry).ravel() for symmetry in range(SYMMETRIES)]


def _centre(matrix: Doubles) -> Doubles:
    centred: Doubles = matrix - matrix.mean(0) - matrix.mean(1)[:, None] + matrix.mean()
    return centred


def _rotated_coordinates(differences: Doubles) -> list[Doubles]:
    """The two principal coordinates [P, 2] of the pixels, rotated by each of the angles.

    Differences are proportional to distances, so their squares are squared distances up to a factor.
    """
    lengths, axes = np.linalg.eigh(-_centre(differences**2) / 2)
    coordinates = axes[:, -2:] * np.sqrt(np.maximum(lengths[-2:], 1e-9))
    angles = np.arange(_ANGLES) * np.pi / 2 / _ANGLES
    return [coordinates @ np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]) for t in angles]


def _to_grid(coordinates: Doubles, grid: Ints) -> Ints:
    """The assignment of points [P, 2] to places [P, 2] that is closest after both axes are ranked."""
    ranks = coordinates.argsort(axis=0).argsort(axis=0) * (grid.max() / max(1, len(grid) - 1))
    place: Ints = linear_sum_assignment(((ranks[:, None] - grid) ** 2).sum(-1))[1]
    return place
