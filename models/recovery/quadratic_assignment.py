"""Quadratic assignment: the permutation p that maximises sum over matrix pairs (m, n) of m[i, j] * n[p[i], p[j]]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

Matrix = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.intp]


def objective(a: Sequence[Matrix], b: Sequence[Matrix], place: Ints) -> float:
    """The sum that the assignment maximises, for matrices [n, n]."""
    return float(sum((m * n[np.ix_(place, place)]).sum() for m, n in zip(a, b, strict=True)))


def frank_wolfe(a: Sequence[Matrix], b: Sequence[Matrix], start: Matrix, max_iterations: int = 40) -> Ints:
    """Maximise the sum of trace(A X B' X') over doubly stochastic X (FAQ, Vogelstein et al. 2015), then round.

    start: doubly stochastic [n, n].
    """
    x = start
    for _ in range(max_iterations):
        gradient = sum(m @ x @ n.T + m.T @ x @ n for m, n in zip(a, b, strict=True))
        rows, columns = linear_sum_assignment(gradient, maximize=True)
        direction = -x
        direction[rows, columns] += 1
        linear = float((gradient * direction).sum())
        square = float(sum((m @ direction @ n.T * direction).sum() for m, n in zip(a, b, strict=True)))
        step = min(1.0, -linear / (2 * square)) if square < 0 else float(linear + square > 0)
        if step < 1e-6:
            break
        x = x + step * direction
    place: Ints = linear_sum_assignment(x, maximize=True)[1]
    return place


def improve_by_swaps(a: Sequence[Matrix], b: Sequence[Matrix], place: Ints, max_iterations: int = 100) -> Ints:
    """Swap the two places with the largest gain until no swap gains."""
    place = place.copy()
    for _ in range(max_iterations):
        gain = np.zeros((len(place), len(place)))
        for m, n in zip(a, b, strict=True):
            p = n[np.ix_(place, place)]
            mixed = m @ p.T + m.T @ p
            own = np.diag(mixed)
            gain += mixed + mixed.T - own[:, None] - own
            # Corrects the entries in which a row or column index is itself one of the two places.
            m0, m1, p0, p1 = np.diag(m)[:, None], np.diag(m), np.diag(p)[:, None], np.diag(p)
            gain += (m0 + m1 - m - m.T) * (p0 + p1 - p - p.T)
        np.fill_diagonal(gain, 0)
        i, j = np.unravel_index(gain.argmax(), gain.shape)
        if gain[i, j] <= 1e-9:
            break
        place[i], place[j] = place[j], place[i]
    return place


def make_doubly_stochastic(positive: Matrix, rounds: int = 20) -> Matrix:
    """Scale the rows and columns of a positive matrix [n, n] until all sum to 1, in place (Sinkhorn)."""
    for _ in range(rounds):
        positive /= positive.sum(1, keepdims=True)
        positive /= positive.sum(0, keepdims=True)
    return positive
