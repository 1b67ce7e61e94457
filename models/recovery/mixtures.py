"""Separation of the private images of InstaHide from many encodings, without training [M].

(a) Random signs leave squares unchanged, and the squares of encodings that share an image correlate. Whitened along
rows, columns and channels, the similarity of such pairs exceeds that of other pairs by five standard deviations.
Cluster centres grow from random encodings, and each encoding is a sum of the centres of its private images.
(b) The square of an encoding of the images x and y contains the product xy. At one place, the products of all pairs of
images form a matrix whose leading eigenvector holds the values of all images up to one sign. Neighbouring values
correlate positively, which leaves one sign for all.
(c) Least squares on absolute values: known images give each encoding its expected signs, and with these signs images
and weights solve linear equations (expectation maximisation).

Carlini et al. (2020) take the same steps with a trained network for (a) and gradient descent for (c).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

OnStep = Callable[[], None]
OnProgress = Callable[[float], None]  # receives a share of the work in 0..1; may raise Cancelled
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

_FEATURE_SIDE = 32  # pixels to which squares are averaged down for comparison
_WHITENING_RIDGE = 0.01  # of the mean eigenvalue
_GROWTH_ROUNDS = 4
_SEEDS = 3  # a private image, in each search
_SEARCHES = 4
_SAME_CENTRE = 0.5  # cosine
_ASSIGNMENT_ROUNDS = 5
_POWER_ROUNDS = 15
_PASSES, _SOLVER_ROUNDS = 2, 8
_MIN_WEIGHT, _MAX_WEIGHT = 0.03, 0.65
_MIN_NOISE = 0.02  # variance
_RIDGE = 1.0  # the prior variance of a normalised value is 1
_CHUNK = 3072  # values that are separated at a time


@dataclass(frozen=True)
class Separated:
    """images: float32 [N, H, W, 3], normalised, up to one sign for all. members: [M, P], the images of each encoding.

    weights: float32 [M, P], of these images, up to a common factor.
    """

    images: Floats
    members: Integers
    weights: Floats


def separate(encodings: Floats, count: int, private: int, seed: int, report: OnProgress) -> Separated:
    """The images, at most `count`, of which encodings float32 [M, H, W, 3] are mixed in any order.

    private: images in an encoding, at least 2 and fewer than `count`.
    """
    steps = iter(range(1, 10**9))

    def on_step() -> None:
        report(1 - 0.98 ** next(steps))

    total, height, width, _ = encodings.shape
    rng = np.random.default_rng(seed)
    features = _features(encodings)
    on_step()
    centres, members, weights = _find_centres(features, count, private, rng, on_step)
    flat = encodings.reshape(total, -1)
    images = _start(flat, members, len(centres), rng, on_step)
    for _ in range(_PASSES):
        images *= _carry_signs(images, height, width)
        images, weights = _solve(flat, members, weights, images, on_step)
    return Separated(images.reshape(-1, height, width, 3), members, weights)


def _features(encodings: Floats) -> Floats:
    """Unit vectors [M, D] of squares, whitened along each axis by the covariance along it."""
    total, height, width, _ = encodings.shape
    step = max(1, -(-max(height, width) // _FEATURE_SIDE))
    rows, columns = -(-height // step) * step, -(-width // step) * step
    values = np.empty((total, rows // step, columns // step, 3), np.float32)
    for i in range(0, total, 256):
        squares = np.square(encodings[i : i + 256])
        squares = np.pad(squares, ((0, 0), (0, rows - height), (0, columns - width), (0, 0)), mode="edge")
        values[i : i + 256] = squares.reshape(-1, rows // step, step, columns // step, step, 3).mean((2, 4))
    values -= values.mean(0)
    values /= np.maximum(values.std(0), 1e-6)
    for axis in (1, 2, 3):
        moved = np.moveaxis(values, axis, 3)
        flat = moved.reshape(-1, moved.shape[3])
        eigenvalues, vectors = np.linalg.eigh(flat.T @ flat / len(flat))
        scale = 1 / np.sqrt(np.maximum(eigenvalues, 0) + _WHITENING_RIDGE * max(eigenvalues.mean(), 1e-6))
        values = np.moveaxis(moved @ ((vectors * scale) @ vectors.T).astype(np.float32), 3, axis)
    return _unit(values.reshape(total, -1))


def _unit(vectors: npt.NDArray[np.floating]) -> Floats:
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)).astype(np.float32)


def _find_centres(
    features: Floats, count: int, private: int, rng: np.random.Generator, on_step: OnStep
) -> tuple[Floats, Integers, Floats]:
    """At most `count` centres, and of each encoding the `private` centres [M, P] of which it is a sum, with weights.

    What the centres found first do not explain of the encodings shows further ones.
    """
    nearest = max(2, 4 * len(features) // (5 * count))
    centres, rest = features[:0], features
    for _ in range(_SEARCHES):
        centres = _merge(centres, _grow(rest, _SEEDS * count, nearest, rng, on_step))[:count]
        shown = min(private, len(centres))
        for _ in range(_ASSIGNMENT_ROUNDS):
            shares = np.linalg.solve(_regular(centres @ centres.T, 1e-3), centres @ features.T).T
            members = np.argpartition(-shares, shown - 1, axis=1)[:, :shown]
            powers = np.maximum(np.take_along_axis(shares, members, axis=1), 1e-3)
            mixing = _incidence(members, powers, len(centres))
            centres = _unit(np.linalg.solve(_regular((mixing.T @ mixing).toarray(), 1e-3), mixing.T @ features))
            on_step()
        if len(centres) == count:
            break
        rest = _unit(features - mixing @ centres)
    weights = np.sqrt(powers)  # features are squares
    weights *= 1 / (2 * private * weights.mean())
    return centres, members.astype(np.int64), np.clip(weights, _MIN_WEIGHT, _MAX_WEIGHT).astype(np.float32)


def _grow(features: Floats, seeds: int, nearest: int, rng: np.random.Generator, on_step: OnStep) -> Floats:
    """Unit vectors, grown from random encodings: each becomes the mean of the `nearest` to it, several times."""
    centres = features[rng.choice(len(features), min(len(features), seeds), replace=False)]
    for _ in range(_GROWTH_ROUNDS):
        closest = np.argpartition(centres @ features.T, -nearest, axis=1)[:, -nearest:]
        centres = _unit(_incidence(closest, np.ones(closest.shape), len(features)) @ features)
        on_step()
    return centres


def _merge(known: Floats, grown: Floats) -> Floats:
    """The known centres, and the mean of every group of equal ones among the rest, the largest group first."""
    merged = list(known)
    left = (grown @ known.T).max(axis=1, initial=-1) < _SAME_CENTRE
    same = grown @ grown.T > _SAME_CENTRE
    while left.any():
        group = same[np.argmax((same & left).sum(axis=1) * left)] & left
        merged.append(_unit(grown[group].mean(axis=0)[None])[0])
        left &= ~group
    return np.stack(merged)


def _incidence(columns: npt.NDArray[np.integer], values: npt.NDArray[np.floating], width: int) -> sp.csr_matrix:
    """A sparse matrix with `values` [M, P] in these columns of each row."""
    rows = np.repeat(np.arange(len(columns)), columns.shape[1])
    return sp.csr_matrix((values.ravel().astype(np.float32), (rows, columns.ravel())), shape=(len(columns), width))


def _regular(matrix: npt.NDArray[np.floating], ridge: float) -> npt.NDArray[np.floating]:
    return matrix + ridge * np.eye(len(matrix), dtype=matrix.dtype)


def _chunks(size: int) -> Iterator[slice]:
    return (slice(start, min(start + _CHUNK, size)) for start in range(0, size, _CHUNK))


def _start(flat: Floats, members: Integers, count: int, rng: np.random.Generator, on_step: OnStep) -> Floats:
    """Values [N, D] of all images, up to a sign for each of the D places.

    Encodings in which nothing is mixed have no products: their absolute values are taken as they are.
    """
    images = np.empty((count, flat.shape[1]), np.float32)
    sums = _incidence(members, np.ones(members.shape), count)
    gram = _regular((sums.T @ sums).toarray(), 1e-3)
    pairs = [(_sums_of(members[:, a], count), _sums_of(members[:, b], count), a, b) for a, b in _pairs(members)]
    uses = np.bincount(members.ravel(), minlength=count)[:, None]
    for part in _chunks(flat.shape[1]):
        squares = np.square(flat[:, part])
        mean = squares.mean(axis=0)
        own = np.linalg.solve(gram, sums.T @ (squares - mean)).astype(np.float32)
        products = squares - mean - sums @ own
        if products.std() < 1e-3 * squares.std():
            images[:, part] = np.sqrt(sums.T @ squares / np.maximum(uses, 1))
            continue
        values = rng.standard_normal((count, part.stop - part.start), np.float32)
        for _ in range(_POWER_ROUNDS):
            summed = np.zeros_like(values)
            for first, second, a, b in pairs:
                summed += first @ (products * values[members[:, b]]) + second @ (products * values[members[:, a]])
            values = summed / np.maximum(np.linalg.norm(summed, axis=0), np.float32(1e-9))
            on_step()
        images[:, part] = values * np.float32(np.sqrt(count))
    return images


def _sums_of(members: Integers, count: int) -> sp.csr_matrix:
    """Adds up, for each image, the rows of the encodings that have it at one position."""
    rows = np.arange(len(members))
    return sp.csr_matrix((np.ones(len(members), np.float32), (members, rows)), shape=(count, len(members)))


def _pairs(members: Integers) -> Iterator[tuple[int, int]]:
    return combinations(range(members.shape[1]), 2)


def _carry_signs(images: Floats, height: int, width: int) -> Floats:
    """A sign for each value, so that neighbours along a tree of the strongest correlations correlate positively."""
    places = np.arange(height * width * 3).reshape(height, width, 3)
    steps = [
        (places[1:], places[:-1]), (places[:, 1:], places[:, :-1]), (places[..., 1:], places[..., :-1]),
        (places[..., 2:], places[..., :1]), (places[2:], places[:-2]), (places[:, 2:], places[:, :-2]),
        (places[1:, 1:], places[:-1, :-1]), (places[1:, :-1], places[:-1, 1:]),
    ]  # fmt: skip
    left, right = (np.concatenate([step[side].ravel() for step in steps]) for side in (0, 1))
    unit = images / np.maximum(np.linalg.norm(images, axis=0), 1e-9)
    distances = 1.001 - np.abs(np.einsum("ij,ij->j", unit[:, left], unit[:, right]))
    graph = sp.csr_matrix((distances, (left, right)), shape=(places.size, places.size))
    order, parents = breadth_first_order(minimum_spanning_tree(graph), 0, directed=False)
    children = order[1:]
    flips = np.where(np.einsum("ij,ij->j", unit[:, children], unit[:, parents[children]]) < 0, -1, 1)
    signs = np.ones(places.size, np.float32)
    for child, flip in zip(children, flips, strict=True):
        signs[child] = signs[parents[child]] * flip
    return signs


def _solve(flat: Floats, members: Integers, weights: Floats, images: Floats, on_step: OnStep) -> tuple[Floats, Floats]:
    """Images and weights that explain the absolute values best."""
    count, size = images.shape
    power = np.concatenate([np.square(flat[i : i + 256]).mean(axis=1) for i in range(0, len(flat), 256)])
    for turn in range(_SOLVER_ROUNDS):
        gram = images @ images.T / size
        products = gram[members[:, :, None], members[:, None, :]]  # [M, P, P], of the images of each encoding
        noise = np.maximum(power - np.einsum("mp,mq,mpq->m", weights, weights, products), _MIN_NOISE)
        mixing = _incidence(members, weights, count)
        weighted = mixing.multiply(1 / noise[:, None]).tocsr()
        normal = _regular((mixing.T @ weighted).toarray(), _RIDGE)
        fitted, agreement = np.empty_like(images), np.zeros(members.shape)
        for part in _chunks(size):
            values = np.abs(flat[:, part])
            values *= np.tanh(values * (mixing @ images[:, part]) / noise[:, None].astype(np.float32))
            for p in range(members.shape[1]):
                agreement[:, p] += np.einsum("ij,ij->i", images[:, part][members[:, p]], values)
            fitted[:, part] = np.linalg.solve(normal, weighted.T @ values)
            on_step()
        if turn >= _SOLVER_ROUNDS // 4:
            weights = _fit_weights(products, agreement / size, noise)
        images = fitted
    return images, weights


def _fit_weights(
    products: npt.NDArray[np.floating], agreement: npt.NDArray[np.float64], noise: npt.NDArray[np.floating]
) -> Floats:
    """Least squares with a prior, for weights of encodings: values of an image are far from independent."""
    private = agreement.shape[1]
    mean = 1 / (2 * private)
    prior = noise / mean**2 / 40
    system = products + prior[:, None, None] * np.eye(private)
    solved = np.linalg.solve(system, (agreement + prior[:, None] * mean)[:, :, None])[:, :, 0]
    return np.clip(solved, _MIN_WEIGHT, _MAX_WEIGHT).astype(np.float32)
