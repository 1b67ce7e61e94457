"""Confidence intervals: bootstrap over images for means, Clopper-Pearson for rates."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from unveil.models.core.statistics import binomial_interval

__all__ = ["binomial_interval", "summary"]

_RESAMPLES = 2000
_MAX_DRAWS_PER_BATCH = 2**22  # bounds memory


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
