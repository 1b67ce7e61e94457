"""Public image statistics for the recovery of Tanaka's keys, written by `unveil.models.tools.fit_public_statistics`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

BUNDLED_STATISTICS = Path(__file__).parents[1] / "weights" / "public_statistics.npz"


@dataclass(frozen=True)
class TanakaStatistics:
    """[0]: neighbours known by upper nibbles, [1]: by whole values."""

    log_distances: npt.NDArray[np.float64]  # [3, 48, 48]
    predictors: npt.NDArray[np.float32]  # [2, 10]
    likelihoods: npt.NDArray[np.float32]  # log-likelihoods [2, prediction bins, activity bins, 16]


@cache
def load_bundled_statistics() -> TanakaStatistics:
    with np.load(BUNDLED_STATISTICS) as archive:
        return TanakaStatistics(
            archive["log_distances"].astype(np.float64),
            archive["predictors"],
            archive["likelihoods"].astype(np.float32),
        )
