"""Confidence intervals: bootstrap over images for means, Clopper-Pearson for rates."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_RESAMPLES = 2000
_MAX_DRAWS_PER_BATCH = 2**22  # bounds memory


def binomial_interval(hits: float, trials: int, confidence: float) -> tuple[float, float]:
    """Clopper-Pearson interval of a rate in 0..1; `hits` may be fractional, as a mean over keys is."""
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = 0.0 if hits <= 0 else float(betaincinv(hits, trials - hits + 1, tail))
    high = 1.0 if hits >= trials else float(betaincinv(hits + 1, trials - hits, 1 - tail))
    return low, high


def summary(values: npt.NDArray[np.float64], seed: int = 0) -> dict[str, Any]:
    """Mean, standard deviation and the 95 % bootstrap interval of the mean of float64 [N], one value for each image."""
    count, rng = len(values), np.random.default_rng(seed)
    step = max(1, _MAX_DRAWS_PER_BATCH // count)
    means = np.empty(_RESAMPLES)
    for i in range(0, _RESAMPLES, step):
        batch_size = min(step, _RESAMPLES - i)
        means[i : i + batch_size] = rng.multinomial(count, np.full(count, 1 / count), size=batch_size) @ values / count
    low, high = np.quantile(means, [0.025, 0.975])
    mean = float(values.mean())
    # min and max: the quantiles of a constant can miss it by a rounding error.
    return {
        "mean": mean,
        "std": float(values.std()),
        "ci_low": min(float(low), mean),
        "ci_high": max(float(high), mean),
        "n": count,
    }
