"""The outcome of an attack that links ciphertexts to originals: a rate and its controls, without images."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from unveil.models.attacks.base import Attack, AttackResult
from unveil.models.core.cell_result import CellResult, Controls, LinkageSummary
from unveil.models.core.errors import AttackFailed, TrainingFailed
from unveil.models.core.images import Images
from unveil.models.core.run_context import RunContext
from unveil.models.core.statistics import binomial_interval
from unveil.models.core.threat_models import Capability
from unveil.models.core.verdict_rules.evidence import CellEvidence, KeyEvidence, Rate
from unveil.models.core.verdict_rules.rules import cell_verdict
from unveil.models.evaluation.attacked_images import from_linkage
from unveil.models.evaluation.attacker_view import ImageSplit, ProtectImages, build_attack_input, inverted, noise
from unveil.models.evaluation.cell_evidence import effort
from unveil.models.evaluation.controls import control_cache_key
from unveil.models.evaluation.originals import Originals
from unveil.models.evaluation.outcome import CellOutcome
from unveil.models.evaluation.scoring import ScoringOptions
from unveil.models.metrics.gallery import Gallery
from unveil.models.schemes.base import Scheme

CONTROL_ERROR = 0.001  # as of the controls of other attacks
_COMPARISON = "linkage"


def link_outcome(
    scheme: Scheme[Any, Any] | None,
    attack: Attack[Any],
    image_split: ImageSplit,
    originals: Originals,
    protected: Images,
    attack_result: AttackResult,
    seconds: float,
    options: ScoringOptions,
    context: RunContext,
    notes: Sequence[str],
    started_at: float,
) -> CellOutcome[CellResult]:
    """The outcome of a linkage attack. seconds: of the attack. started_at: on time.monotonic's clock."""
    gallery = originals.gallery
    rate = link_rate(attack_result, gallery)
    controls = _run_controls(scheme, attack, image_split, originals, context)
    evidence = CellEvidence(
        attack.name,
        attack.threat_model.name,
        dict(vars(attack.settings)),
        "succeeded",
        keys=(KeyEvidence(linkage=rate),),
        controls=vars(controls),
        gallery=gallery.size,
        effective_gallery=gallery.effective_size,
        effort=effort([attack_result], [seconds]),
    )
    low, high = binomial_interval(rate.hits, rate.trials)
    result = CellResult(
        linkage=LinkageSummary(
            top1=rate.value,
            chance=rate.chance,
            ci_low=low,
            ci_high=high,
            gallery=gallery.size,
            effective_gallery=round(gallery.effective_size, 2),
        ),
        controls=controls,
        numbers=dict(attack_result.metrics),
        verdict=cell_verdict(evidence, options.planned_cells).verdict,
        evidence=evidence,
        capabilities=[c for c in Capability if c in attack.threat_model],
        seconds=round(time.monotonic() - started_at, 3),
        device=context.device,
        notes=[*notes, *attack_result.notes],
    )
    return CellOutcome(result, images=from_linkage(originals, protected, attack_result))


def link_rate(attack_result: AttackResult, gallery: Gallery) -> Rate:
    """Hits among the gallery: near-duplicates of the original count as the original, and in chance."""
    assert attack_result.similarities is not None
    similarity = attack_result.similarities(gallery.images)
    chosen = gallery.clusters[similarity.argmax(axis=1)]
    highest = similarity.max(axis=1, keepdims=True)
    unique = (similarity == highest).sum(axis=1) == 1  # a tie says nothing
    hits = int(((chosen == gallery.own_clusters) & unique).sum())
    chance = float((gallery.cluster_sizes[chosen] / gallery.size).mean())
    return Rate(_COMPARISON, hits, len(similarity), chance)


def _run_controls(
    scheme: Scheme[Any, Any] | None,
    attack: Attack[Any],
    image_split: ImageSplit,
    originals: Originals,
    context: RunContext,
) -> Controls:
    """Positive: inverted images must be linked above chance. Negative: noise must not.

    The cells of an evaluation share them, as those of other learned attacks (`controls`).
    """
    cache_key = f"controls/{control_cache_key(scheme, attack, image_split, originals, context)}"

    def compute() -> bytes:
        controls = _run_both_controls(scheme, attack, image_split, originals.gallery, context)
        return json.dumps(vars(controls)).encode()

    return Controls(**json.loads(context.memoize(cache_key, compute)))


def _run_both_controls(
    scheme: Scheme[Any, Any] | None,
    attack: Attack[Any],
    image_split: ImageSplit,
    gallery: Gallery,
    context: RunContext,
) -> Controls:
    invert = inverted(scheme, attack)
    draw = noise(scheme, attack, np.random.default_rng(context.seed), image_split.targets[:0])
    context.report(0.0, "positive control")
    linked = _links(scheme, attack, image_split, gallery, context.scoped("control-positive", 0, 0.5), invert)
    context.report(0.5, "negative control")
    found = _links(scheme, attack, image_split, gallery, context.scoped("control-negative", 0.5, 1), draw)
    return Controls(
        positive="passed" if linked else "failed",
        negative="failed" if found or found is None else "passed",
    )


def _links(
    scheme: Scheme[Any, Any] | None,
    attack: Attack[Any],
    image_split: ImageSplit,
    gallery: Gallery,
    context: RunContext,
    protect: ProtectImages,
) -> bool | None:
    """Whether the attack links images that `protect` has protected; None where its training broke off."""
    try:
        attack_input = build_attack_input(scheme, attack, image_split, protect, context=context)
        attack_result = attack.run(attack_input, context)
    except TrainingFailed:
        return None
    except AttackFailed:
        return False
    return link_rate(attack_result, gallery).p_value <= CONTROL_ERROR
