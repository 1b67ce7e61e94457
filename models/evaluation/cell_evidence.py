"""The evidence of a cell, from its scored trials and its controls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unveil.models.attacks.base import Attack, AttackResult
from unveil.models.core.cell_result import IdentificationSummary, ScoreSummary
from unveil.models.core.images import Images
from unveil.models.core.verdict_rules.evidence import CellEvidence, Effort, KeyEvidence
from unveil.models.core.verdict_rules.rules import above_chance
from unveil.models.core.verdict_rules.types import FAMILY_ERROR
from unveil.models.evaluation.controls import ControlRun
from unveil.models.evaluation.ground_truth import match_public_images
from unveil.models.evaluation.key_evidence import collect_evidence
from unveil.models.evaluation.scoring import KeyTrial
from unveil.models.metrics.comparisons import COMPARISON_NAMES
from unveil.models.metrics.intervals import binomial_interval, summary
from unveil.models.metrics.matching import Matches
from unveil.models.metrics.naturalness import naturalness

_SHOWN_P = 1e-4  # of a ciphertext that shows a public image
_SCALE_PREFIX = "correlation-"


def build_evidence(
    attack: Attack[Any],
    trials: Sequence[KeyTrial],
    control_run: ControlRun,
    public: Images,
    *,
    rejected: Sequence[Matches] = (),
    seed: int = 0,
) -> CellEvidence:
    """rejected: of trials that were worse than the one chosen, all under the same key; their tests count as well."""
    first = trials[0]
    keys = [_key_evidence(trial, control_run, seed) for trial in trials]
    keys += [collect_evidence(matches, control_run.nulls) for matches in rejected]
    natural_looking, matched_public = find_natural_looking([trial.protected for trial in trials], public)
    return CellEvidence(
        attack.name,
        attack.threat_model.name,
        dict(vars(attack.settings)),
        "succeeded",
        keys=tuple(keys),
        controls=vars(control_run.controls),
        gallery=first.matches.gallery,
        effective_gallery=first.matches.effective_gallery,
        natural_looking=natural_looking,
        matched_public=matched_public,
        ambiguity=first.attack_result.ambiguity,
        effort=effort([trial.attack_result for trial in trials], [trial.seconds for trial in trials]),
    )


def _key_evidence(trial: KeyTrial, control_run: ControlRun, seed: int) -> KeyEvidence:
    ssim = ScoreSummary(**summary(trial.ssim, seed))
    return collect_evidence(
        trial.matches,
        control_run.nulls,
        ssim=ssim.mean,
        ssim_interval=(ssim.ci_low, ssim.ci_high),
        key_exact=None if trial.key_agreement is None else bool(trial.key_agreement["exact"]),
    )


def find_natural_looking(protected: Sequence[Images], public: Images) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Indices of ciphertexts, under any key, that look like natural images, and of those that match a public image."""
    natural, shown = set[int](), set[int]()
    for images in protected:
        found = np.flatnonzero(naturalness(images).looks_natural)
        natural.update(found.tolist())
        if len(found) and len(public) and public.shape[1:] == images.shape[1:]:
            matches = match_public_images(images[found], public)
            shown.update(int(found[match.index]) for match in matches if match.p_value <= _SHOWN_P)
    return tuple(sorted(natural)), tuple(sorted(shown))


def effort(results: Sequence[AttackResult], seconds: Sequence[float]) -> Effort:
    """The material that the attack reports for the first key, and its mean time."""
    numbers = results[0].metrics
    counts = {name: int(numbers[name]) for name in ("ciphertexts", "pairs", "queries") if name in numbers}
    return Effort(**counts, seconds=round(float(np.mean(seconds)), 3))


def summarize_identification(trials: Sequence[KeyTrial], keys: Sequence[KeyEvidence]) -> IdentificationSummary:
    """Of the comparison that identifies most above chance, as a mean over the keys."""
    matches = [trial.matches for trial in trials]
    rates = {
        name: (
            np.mean([m[name].hits for m in matches]) / matches[0].queries,
            np.mean([m[name].chance for m in matches]),
        )
        for name in COMPARISON_NAMES
    }
    best = max(rates, key=lambda name: rates[name][0] - rates[name][1])
    rate, images = float(rates[best][0]), matches[0].queries
    low, high = binomial_interval(rate * images, images, 1 - 0.05 / len(rates))
    return IdentificationSummary(
        top1=rate,
        chance=float(rates[best][1]),
        ci_low=low,
        ci_high=high,
        gallery=matches[0].gallery,
        effective_gallery=round(matches[0].effective_gallery, 2),
        comparison=best,
        scale=int(best.removeprefix(_SCALE_PREFIX)) if best.startswith(_SCALE_PREFIX) else None,
        above_chance=any(above_chance(key, FAMILY_ERROR / len(keys)) for key in keys),
        per_key=[m[best].hits / images for m in matches] if len(matches) > 1 else None,
    )
