"""Key recovery in plain NumPy without optimisation, the peer of the product's key recovery."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from unveil.models.core.images import Images
from unveil.models.recovery.tanaka import log_distances
from unveil.models.recovery.tanaka_statistics import load_bundled_statistics
from unveil.models.schemes.tanaka import nibbles

Floats = npt.NDArray[np.floating[Any]]

# Candidate 8 * order + signs as the 3x3 matrix that undoes it.
_CANDIDATES = np.array(
    [
        np.diag(sign) @ np.eye(3)[list(order)]
        for order in itertools.permutations(range(3))
        for sign in itertools.product((1, -1), repeat=3)
    ],
    np.float32,
)


def pixelwise(ciphertexts: Images) -> npt.NDArray[np.int64]:
    """The candidate 0..47 of each pixel: grown from the centre pixel by pixel, then swept until nothing changes."""
    z = ciphertexts.transpose(1, 2, 3, 0).astype(np.float32) - np.float32(127.5)
    height, width = z.shape[:2]
    aligned, is_aligned = np.zeros_like(z), np.zeros((height, width), np.bool_)
    candidates = np.zeros((height, width), np.int64)
    pixels = sorted(np.ndindex(height, width), key=lambda p: max(abs(p[0] - height // 2), abs(p[1] - width // 2)))
    aligned[pixels[0]], is_aligned[pixels[0]] = z[pixels[0]], True
    for _ in range(4):
        previous = candidates.copy()
        for y, x in pixels:
            neighbourhood = slice(max(0, y - 2), y + 3), slice(max(0, x - 2), x + 3)
            others = is_aligned[neighbourhood].astype(np.float32)
            others[min(y, 2), min(x, 2)] = 0
            reference = np.tensordot(others, aligned[neighbourhood], 2)
            best = int((_CANDIDATES.reshape(48, 9) @ (reference @ z[y, x].T).ravel()).argmax())
            candidates[y, x], aligned[y, x], is_aligned[y, x] = best, _CANDIDATES[best] @ z[y, x], True
        if (candidates == previous).all():
            break
    return candidates


def tanaka(ciphertexts: Images, restarts: int = 8) -> tuple[Any, Any]:
    """Places of the 48 upper streams, and which place each lower one has."""
    values = nibbles(ciphertexts).astype(np.float32) - np.float32(7.5)
    flat = values.reshape(-1, 96)
    correlation = np.corrcoef(flat.T)
    upper = np.sort(np.argsort(-np.abs(correlation).sum(0))[:48])
    lower = np.setdiff1d(np.arange(96), upper)
    sign = np.sign(np.linalg.eigh(correlation[np.ix_(upper, upper)])[1][:, -1]).astype(np.float32)
    a = [m - m.mean() for m in log_distances(values[..., upper] * sign)]
    b = [m - m.mean() for m in load_bundled_statistics().log_distances]
    rng = np.random.default_rng(0)
    places = [_improve_by_swaps(a, b, _frank_wolfe(a, b, rng.random((48, 48)))) for _ in range(restarts)]
    place = max(places, key=lambda p: _merit(a, b, p))
    placed = np.zeros((len(flat), 48), np.float32)
    placed[:, place] = flat[:, upper] * sign
    residual = placed - placed.mean(1, keepdims=True)  # of a pixel beside the mean of its block
    match = np.corrcoef(np.concatenate([flat[:, lower], residual], 1).T)[:48, 48:]
    return place, linear_sum_assignment(np.abs(match), maximize=True)[1]


def _merit(a: list[Floats], b: list[Floats], place: Any) -> float:
    return float(sum((m * n[np.ix_(place, place)]).sum() for m, n in zip(a, b, strict=True)))


def _frank_wolfe(a: list[Floats], b: list[Floats], x: Any) -> Any:
    x = x / x.sum(1, keepdims=True)
    for step in range(60):
        gradient = sum(m @ x @ n.T + m.T @ x @ n for m, n in zip(a, b, strict=True))
        rows, columns = linear_sum_assignment(gradient, maximize=True)
        corner = np.zeros_like(x)
        corner[rows, columns] = 1
        x = x + 2 / (step + 2) * (corner - x)
    return linear_sum_assignment(x, maximize=True)[1]


def _improve_by_swaps(a: list[Floats], b: list[Floats], place: Any) -> Any:
    """Two places swapped wherever that helps, until nothing does."""
    best, improved = _merit(a, b, place), True
    while improved:
        improved = False
        for i, j in itertools.combinations(range(48), 2):
            place[[i, j]] = place[[j, i]]
            merit = _merit(a, b, place)
            if merit > best + 1e-9:
                best, improved = merit, True
            else:
                place[[i, j]] = place[[j, i]]
    return place
