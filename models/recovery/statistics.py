"""Public statistics of photographs used by key recovery; `unveil.models.tools.fit_public_statistics` writes them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

BUNDLED_STATISTICS = Path(__file__).parents[1] / "weights" / "public_statistics.npz"


@dataclass(frozen=True)
class TanakaStatistics:
    """For `unveil.models.recovery.tanaka`: lower nibbles given upper nibbles, and lower nibbles given whole values."""

    log_distances: npt.NDArray[np.float64]  # [3, 48, 48]
    predictors: npt.NDArray[np.float32]  # [2, 10]
    likelihoods: npt.NDArray[np.float32]  # [2, prediction bins, activity bins, 16], logarithms


@dataclass(frozen=True)
class Statistics:
    tanaka: TanakaStatistics


@cache
def load_bundled_statistics() -> Statistics:
    """The statistics that come with the product."""
    with np.load(BUNDLED_STATISTICS) as archive:
        tanaka = TanakaStatistics(
            archive["log_distances"].astype(np.float64),
            archive["predictors"],
            archive["likelihoods"].astype(np.float32),
        )
    return Statistics(tanaka)
