"""Kernel ridge regression from ciphertexts to the appearance of their originals, from pairs.

A fixed permutation or inversion of values, and any other fixed linear map, leaves inner products of centred images as
they are, so the regression needs no knowledge of the map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images

Floats = npt.NDArray[np.float32]

_GRID = 12  # averages a side that describe the appearance of an image
_MAX_DIMENSIONS = 128
_PENALTIES = (1e-3, 1e-1, 10.0)  # of the ridge, in units of the mean squared length of a ciphertext
_COLUMNS_PER_CHUNK = 4096  # bounds memory


@dataclass(frozen=True)
class Appearance:
    """Whitened principal components of 12x12 colour averages of plain images."""

    mean: Floats
    components: Floats

    @classmethod
    def fit(cls, plain: Images) -> Appearance:
        averages = _averages(plain)
        mean = averages.mean(axis=0)
        _, lengths, axes = np.linalg.svd(averages - mean, full_matrices=False)
        count = min(_MAX_DIMENSIONS, max(1, len(plain) // 4), int((lengths > 1e-3 * lengths[0]).sum()))
        scale = lengths[:count] / np.sqrt(len(plain))
        return cls(mean, (axes[:count].T / np.maximum(scale, 1e-6)).astype(np.float32))

    def describe(self, plain: Images) -> Floats:
        """Unit vectors, float32 [N, D]."""
        return normalize((_averages(plain) - self.mean) @ self.components)


@dataclass(frozen=True)
class LinearRecogniser:
    """Predicts the appearance of originals from ciphertexts of uint8 [N, H, W, 3]."""

    appearance: Appearance
    protected: Images
    coefficients: Floats  # [pairs, D]

    @classmethod
    def fit(cls, plain: Images, protected: Images, held_out: int) -> LinearRecogniser:
        """held_out: the number of last pairs that choose the penalty; the others train."""
        appearance = Appearance.fit(plain[:-held_out])
        targets = (_averages(plain) - appearance.mean) @ appearance.components
        products = inner_products(protected, protected)
        train = slice(0, len(plain) - held_out)
        within, across = products[train, train].astype(np.float64), products[train.stop :, train]
        unit = np.trace(within) / len(within)
        best: tuple[float, Floats] | None = None
        for penalty in _PENALTIES:
            solved = np.linalg.solve(within + penalty * unit * np.eye(len(within)), targets[train])
            coefficients = solved.astype(np.float32)
            rate = top1(normalize(across @ coefficients), normalize(targets[train.stop :]))
            if best is None or rate > best[0]:
                best = rate, coefficients
        assert best is not None
        return cls(appearance, protected[train], best[1])

    def embed_protected(self, protected: Images) -> Floats:
        return normalize(inner_products(protected, self.protected) @ self.coefficients)

    def embed_plain(self, plain: Images) -> Floats:
        return self.appearance.describe(plain)


def inner_products(first: Images, second: Images) -> Floats:
    """Of centred values, float32 [N, M]."""
    a, b = first.reshape(len(first), -1), second.reshape(len(second), -1)
    total = np.zeros((len(a), len(b)), np.float32)
    for start in range(0, a.shape[1], _COLUMNS_PER_CHUNK):
        columns = slice(start, start + _COLUMNS_PER_CHUNK)
        total += (a[:, columns].astype(np.float32) - 127.5) @ (b[:, columns].astype(np.float32) - 127.5).T
    return total / np.float32(a.shape[1])


def normalize(vectors: npt.NDArray[np.floating]) -> Floats:
    """Rows of unit length, float32; a row of zeros stays."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), np.float32)


def top1(queries: Floats, gallery: Floats) -> float:
    """The share of queries whose most similar gallery vector is the one at their own position."""
    similarity = queries @ gallery.T
    own = similarity.diagonal()[:, None]
    return float(((similarity >= own).sum(axis=1) == 1).mean())


def _averages(images: Images) -> Floats:
    """Averages of a grid of 12x12 cells, float32 [N, 432]; cells of small images repeat."""
    count, height, width, _ = images.shape
    rows, columns = (np.linspace(0, side, _GRID + 1).astype(int) for side in (height, width))
    sums = np.zeros((count, height + 1, width + 1, 3), np.int64)
    sums[:, 1:, 1:] = images.cumsum(axis=1, dtype=np.int64).cumsum(axis=2)
    top, bottom = rows[:-1], np.maximum(rows[1:], rows[:-1] + 1)
    left, right = columns[:-1], np.maximum(columns[1:], columns[:-1] + 1)
    corner = sums[:, bottom][:, :, right] - sums[:, top][:, :, right] - sums[:, bottom][:, :, left]
    area = ((bottom - top)[:, None] * (right - left)[None])[None, :, :, None]
    return ((corner + sums[:, top][:, :, left]) / area).reshape(count, -1).astype(np.float32)
