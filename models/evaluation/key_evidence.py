"""Evidence of one key from similarities: hits by comparison, p-values of single images, misplaced originals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from unveil.models.core.verdict_rules.evidence import REPORTED_P, ImageFinding, KeyEvidence, Rate
from unveil.models.evaluation.ground_truth import misplaced_images, order_p_value
from unveil.models.metrics.matching import Matches
from unveil.models.metrics.significance import NullDistribution

Nulls = Mapping[str, NullDistribution]


def null_distributions(control: Matches) -> dict[str, NullDistribution]:
    """By comparison, the similarities that an attack reaches on noise (the negative control)."""
    return {s.name: s.null for s in control.scores}


def collect_evidence(
    matches: Matches,
    control: Nulls | None = None,
    *,
    ssim: float | None = None,
    ssim_interval: tuple[float, float] | None = None,
    key_exact: bool | None = None,
    linkage: Rate | None = None,
) -> KeyEvidence:
    """Evidence from the similarities under one key. control: `null_distributions` of the negative control."""
    p_values = image_p_values(matches, control)
    corrected = np.minimum(1, p_values.min(axis=0) * len(p_values))
    winner = p_values.argmin(axis=0)
    found = [i for i in np.argsort(corrected, kind="stable") if corrected[i] <= REPORTED_P]
    return KeyEvidence(
        rates=tuple(Rate(s.name, s.hits, matches.queries, s.chance) for s in matches.scores),
        images_tested=matches.queries,
        findings=tuple(ImageFinding(int(i), float(corrected[i]), matches.scores[winner[i]].name) for i in found),
        linkage=linkage,
        ssim=ssim,
        ssim_interval=ssim_interval,
        key_exact=key_exact,
        misplaced=misplaced_images(matches),
        order_p_value=order_p_value(matches),
    )


def image_p_values(matches: Matches, control: Nulls | None) -> npt.NDArray[np.float64]:
    """p-value of each image under each comparison, not corrected: float64 [comparisons, N].

    The larger of two: against what the attack makes of noise, and against the pairs of reconstructions with originals
    not theirs. The first alone would call any smooth image a leak; the second alone is wrong where originals do not
    match.
    """
    rows = []
    for scores in matches.scores:
        p = scores.null.p_values(scores.own)
        if control is not None:
            p = np.maximum(p, control[scores.name].p_values(scores.own))
        rows.append(p)
    return np.stack(rows)
