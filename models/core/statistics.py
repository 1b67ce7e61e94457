"""Statistics of rates: p-values of hit counts, confidence bounds, Holm. Imports no NumPy at module level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def hits_p_values(hits: Any, trials: Any, chance: Any) -> Any:
    """Probability of so many hits, or more, when reconstructions say nothing about which original is theirs; float64.

    Arrays or numbers. The queries of one gallery are paired with its images one to one, so hits are counted in a random
    pairing: their tail is the Poisson tail, except near the end, where all n right has a probability of 1 / n!.
    """
    import numpy as np
    from scipy.special import gammainc, gammaln

    hits, trials, chance = (np.asarray(value, np.float64) for value in (hits, trials, chance))
    expected = trials * chance
    poisson = gammainc(np.maximum(hits, 1), expected)
    pairing = np.exp(-gammaln(hits + 1))
    near_the_end = (expected <= 1.5) & (hits > trials - 3)
    p = np.where(near_the_end, np.maximum(poisson, pairing), poisson)
    return np.where((hits <= 0) | (chance >= 1), 1.0, np.minimum(p, 1.0))


def upper_bounds(hits: Any, trials: Any, error: float) -> Any:
    """One-sided Clopper-Pearson upper confidence bounds of rates, float64; arrays or numbers."""
    import numpy as np
    from scipy.special import betaincinv

    hits, trials = np.asarray(hits, np.float64), np.asarray(trials, np.float64)
    misses = np.maximum(trials - hits, 1e-9)
    return np.where(hits >= trials, 1.0, betaincinv(hits + 1, misses, 1 - error))


def binomial_interval(hits: float, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson interval of a rate in 0..1; `hits` may be fractional, as a mean over keys is."""
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = 0.0 if hits <= 0 else float(betaincinv(hits, trials - hits + 1, tail))
    high = 1.0 if hits >= trials else float(betaincinv(hits + 1, trials - hits, 1 - tail))
    return low, high


def holm(p_values: Sequence[float], family: int, error: float) -> int:
    """How many of the ascending `p_values` are rejected in a family of `family` tests at a family-wise error `error`.

    p_values: the smallest of the family, ascending; tests left out have larger ones.
    """
    for rank, p in enumerate(p_values):
        if p * (family - rank) > error:
            return rank
    return len(p_values)
