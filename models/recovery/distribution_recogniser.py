"""Recognises an image by the distributions of its values, which no order of values, pixels or blocks changes.

They stay the same under a key for each image too. The pairs show which of them a scheme keeps, and how well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images
from unveil.models.metrics.match_features import grid_average

Floats = npt.NDArray[np.float32]

_BLOCK_SIDES = (4, 8, 16)
_QUANTILES = 64  # of the values of all blocks of an image
_CHUNK = 64  # images described at a time, which bounds memory
_MAX_COMPONENTS = 64  # of each distribution
_SMALLEST_ERROR = 1e-4  # variance of the error, in units of the variance over images: what counts as kept exactly


@dataclass(frozen=True)
class _Distribution:
    """One distribution: how its principal components in an original follow from those in the ciphertext.

    The error of each component is taken to be normal, with the variance that it has on the pairs.
    """

    mean: Floats
    components: Floats
    protected_mean: Floats
    slopes: Floats
    weights: Floats  # 1 / standard deviation of the error

    @classmethod
    def fit(cls, plain: Floats, protected: Floats) -> _Distribution:
        mean, scale = plain.mean(axis=0), plain.std(axis=0)
        scale = np.where(scale > 0, scale, 1)
        _, lengths, axes = np.linalg.svd((plain - mean) / scale, full_matrices=False)
        count = min(_MAX_COMPONENTS, max(1, len(plain) // 4), int((lengths > 1e-3 * lengths[0]).sum()))
        components = np.asarray(axes[:count].T / scale[:, None], np.float32)
        originals, ciphertexts = (plain - mean) @ components, (protected - mean) @ components
        protected_mean = ciphertexts.mean(axis=0)
        ciphertexts = ciphertexts - protected_mean
        energy = (ciphertexts**2).sum(axis=0)
        slopes = (ciphertexts * originals).sum(axis=0) / np.where(energy > 0, energy, 1)
        errors = ((originals - slopes * ciphertexts) ** 2).mean(axis=0)
        weights = np.asarray(1 / np.sqrt(errors + _SMALLEST_ERROR * originals.var(axis=0)), np.float32)
        return cls(mean, components, protected_mean, slopes, weights)

    def predict(self, protected: Floats) -> Floats:
        """The weighted components of the originals."""
        found = (protected - self.mean) @ self.components - self.protected_mean
        return np.asarray(found * self.slopes * self.weights, np.float32)

    def project(self, plain: Floats) -> Floats:
        return np.asarray((plain - self.mean) @ self.components * self.weights, np.float32)


@dataclass(frozen=True)
class DistributionRecogniser:
    """Its similarity falls with the distance of the distributions, in units of what a scheme changes of each."""

    distributions: tuple[_Distribution, ...]

    @classmethod
    def fit(cls, plain: Images, protected: Images) -> DistributionRecogniser:
        pairs = zip(describe_distributions(plain), describe_distributions(protected), strict=True)
        return cls(tuple(_Distribution.fit(*pair) for pair in pairs))

    def embed_protected(self, protected: Images) -> Floats:
        described = zip(self.distributions, describe_distributions(protected), strict=True)
        vectors = [distribution.predict(part) for distribution, part in described]
        return np.concatenate([*vectors, np.ones((len(protected), 1), np.float32)], axis=1)

    def embed_plain(self, plain: Images) -> Floats:
        """The last coordinate makes the inner product a negative squared distance, but for a constant of each query."""
        described = zip(self.distributions, describe_distributions(plain), strict=True)
        vectors = np.concatenate([distribution.project(part) for distribution, part in described], axis=1)
        return np.concatenate([vectors, -(vectors**2).sum(axis=1, keepdims=True) / 2], axis=1)


def describe_distributions(images: Images) -> list[Floats]:
    """Of uint8 [N, H, W, 3], each float32 [N, D]: cumulative histograms of the values and of their distance from the
    middle, which inversion keeps, and for each size of blocks that fits the sorted means and standard deviations.
    """
    chunks = [_describe_chunk(images[start : start + _CHUNK]) for start in range(0, len(images), _CHUNK)]
    return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]


def _describe_chunk(images: Images) -> list[Floats]:
    values = images.reshape(len(images), -1)
    parts = [_cumulative_histogram(values), _cumulative_histogram(np.where(values < 128, 255 - values, values))]
    _, height, width, _ = images.shape
    for side in _BLOCK_SIDES:
        rows, columns = height // side, width // side
        if min(rows, columns) == 0:
            continue
        cut = images[:, : rows * side, : columns * side].reshape(len(images), rows, side, columns, side, 3)
        totals = cut.sum(axis=(2, 4, 5), dtype=np.int64).reshape(len(images), -1)
        squares = np.einsum("nabcde,nabcde->nac", cut, cut, dtype=np.int64).reshape(len(images), -1)
        means = totals / (3 * side**2)
        deviations = np.sqrt(np.maximum(squares / (3 * side**2) - means**2, 0))
        ordered = np.sort(np.stack([means, deviations], axis=2), axis=1)
        parts.append(grid_average(ordered, _QUANTILES, 2).reshape(len(images), -1).astype(np.float32))
    return parts


def _cumulative_histogram(values: npt.NDArray[np.uint8]) -> Floats:
    """Share of each row's values up to 0, 1, ... 255: [N, P] -> [N, 256]."""
    count = len(values)
    codes = values + (256 * np.arange(count))[:, None]
    counts = np.bincount(codes.ravel(), minlength=256 * count).reshape(count, 256)
    return np.asarray(counts.cumsum(axis=1) / values.shape[1], np.float32)
