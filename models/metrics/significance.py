"""p-values of similarities, from the distribution of similarities with unrelated images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_TAIL_SHARE = 0.01
_MIN_TAIL = 100  # exceedances that a tail is fitted to
_MAX_FLOOR = 0.1  # of the shape
_MAX_FREEDOM = 8  # similarities are skewed: a heavier tail than their number suggests
_CLIPPED = 1 - 1e-6


def fisher_z(similarity: npt.NDArray[np.floating]) -> Floats:
    """Fisher's z-transformation, finite for a correlation of 1."""
    return np.arctanh(np.clip(similarity.astype(np.float64), -_CLIPPED, _CLIPPED))


@dataclass(frozen=True)
class NullDistribution:
    """Upper tail of similarities with unrelated images, on Fisher's z scale.

    Above `threshold` (the 99th percentile) a generalized Pareto tail with a `shape` of at least 0, so that the
    extrapolation is never lighter than exponential; p-values above `tail_share` are given as 1, for no rule needs them.
    With `freedom`, Student's t about `threshold`: for few similarities.
    """

    threshold: float
    tail_share: float
    scale: float
    shape: float = 0.0
    freedom: int = 0

    def p_values(self, similarity: npt.NDArray[np.floating]) -> Floats:
        """Probability of so high a similarity, or higher, with an unrelated image."""
        excess = (fisher_z(similarity) - self.threshold) / self.scale
        if self.freedom:
            from scipy.special import stdtr

            return np.asarray(stdtr(self.freedom, -excess), np.float64)
        above = np.maximum(excess, 0)
        tail = np.exp(-above) if self.shape == 0 else (1 + self.shape * above) ** (-1 / self.shape)
        return np.where(excess > 0, self.tail_share * tail, 1.0)


NO_NULL = NullDistribution(np.inf, 1.0, 1.0)  # every p-value is 1


def fit_null(unrelated: npt.NDArray[np.floating], queries: npt.NDArray[np.integer]) -> NullDistribution:
    """Fit the tail of similarities with unrelated images. queries: which reconstruction each similarity is of.

    Similarities of one reconstruction are not independent. Where few of them fill the tail, such as one photograph
    among noise, the shape has a floor of 1 / their number, at most 0.1.
    """
    count = len(unrelated)
    if count < 2:
        return NO_NULL
    if count < 10 * _MIN_TAIL:
        independent = len(np.unique(queries))
        if independent < 2:
            return NO_NULL
        z = fisher_z(unrelated)
        deviation = max(float(z.std(ddof=1)), 1e-3) * math.sqrt(1 + 1 / count)
        return NullDistribution(float(z.mean()), 1.0, deviation, freedom=min(independent - 1, _MAX_FREEDOM))
    tail = max(_MIN_TAIL, int(_TAIL_SHARE * count))
    highest = np.argpartition(unrelated, count - tail - 1)[count - tail - 1 :]
    top = fisher_z(unrelated[highest])
    threshold = float(top[0])
    scale, shape = _pareto(top[1:] - threshold)
    by_query = np.bincount(queries[highest[1:]]).astype(np.float64)
    effective = tail**2 / float((by_query**2).sum())
    floor = min(_MAX_FLOOR, 1 / effective)
    return NullDistribution(threshold, tail / count, scale, max(shape, floor))


def _pareto(excesses: Floats) -> tuple[float, float]:
    """Scale and shape, by probability-weighted moments (Hosking and Wallis 1987); a shape below 0 becomes 0."""
    ordered = np.sort(excesses)
    count = len(ordered)
    first = float(ordered.mean())
    second = float((ordered * (1 - (np.arange(1, count + 1) - 0.35) / count)).mean())
    smallest = 1e-9
    if first <= smallest:
        return smallest, 0.0
    shape = 2 - first / max(first - 2 * second, smallest)
    if not 0 < shape < 0.9:
        return max(first, smallest), 0.0 if shape <= 0 else 0.9
    return 2 * first * second / (first - 2 * second), shape
