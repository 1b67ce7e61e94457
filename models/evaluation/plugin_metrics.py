"""Scores by the metrics of plug-ins, beside those that verdicts are made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images
from unveil.models.metrics.intervals import summary
from unveil.models.registry import registered


def score_plugin_metrics(
    originals: Images, reconstructions: Sequence[Images], seed: int
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """A summary for each registered metric over all keys, and a note for each metric that failed."""
    summaries, notes = dict[str, dict[str, Any]](), list[str]()
    for name, metric in registered("metric").items():
        try:
            scores = np.array([_check(metric().compute(originals.copy(), images.copy()), len(originals))
                               for images in reconstructions])  # fmt: skip
        except Exception as error:
            notes.append(f"the metric {name} failed: {type(error).__name__}: {error}")
            continue
        per_key = scores.mean(axis=1).tolist() if len(scores) > 1 else None
        summaries[name] = {**summary(scores.mean(axis=0), seed), "per_key": per_key}
    return summaries, notes


def _check(scores: object, count: int) -> npt.NDArray[np.float64]:
    values = np.asarray(scores, np.float64)
    if values.shape != (count,) or not np.isfinite(values).all():
        raise ValueError(f"returned {list(values.shape)} values; expected {count} finite numbers, one for each image")
    return values
