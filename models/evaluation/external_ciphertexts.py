"""Uploaded ciphertexts, possibly of an unknown scheme, under every attack that the uploaded material allows."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unveil.models.attacks.base import Attack, AttackResult
from unveil.models.catalog import external_not_applicable_reason, known_ciphers, takes_unknown_scheme
from unveil.models.core.cell_result import CellResult, RecognitionRate
from unveil.models.core.errors import AttackFailed, DoesNotApply
from unveil.models.core.images import Images
from unveil.models.core.profiles import PROFILE_IMAGE_COUNTS
from unveil.models.core.run_context import RunContext
from unveil.models.core.threat_models import Capability
from unveil.models.core.verdict_rules.evidence import CellEvidence
from unveil.models.core.verdict_rules.rules import cell_verdict
from unveil.models.data.image_dataset import ImageDataset
from unveil.models.evaluation.attacked_images import AttackedImages
from unveil.models.evaluation.attacker_view import ImageSplit, build_attack_input, split_images
from unveil.models.evaluation.cell_evidence import effort, find_natural_looking
from unveil.models.evaluation.controls import controls_context, controls_start_fraction, run_controls
from unveil.models.evaluation.isolation import run_attack
from unveil.models.evaluation.linkage import link_outcome
from unveil.models.evaluation.originals import Originals
from unveil.models.evaluation.outcome import CellOutcome, Sample, build_outcome
from unveil.models.evaluation.scoring import KeyTrial, ScoringOptions, score
from unveil.models.metrics.ssim import ssim
from unveil.models.schemes.base import Scheme


def run_external(
    attack: Attack[Any],
    data: ImageDataset,
    options: ScoringOptions,
    context: RunContext,
    *,
    public: Images | None = None,
    oracle: Callable[[Images], Images] | None = None,
    key_per_image: bool = False,
) -> CellOutcome[CellResult]:
    """Attack the ciphertexts `data.test`, and score against `data.test_originals` if there are any.

    An attack on particular schemes is tried for each of these. The best attempt counts; with originals, the tests of
    all attempts count, because the originals choose the best. oracle: encrypts chosen images under the key of the
    ciphertexts. key_per_image: no two images share a key.
    Raises AttackFailed, Cancelled.
    """
    started_at = time.monotonic()
    full_data, data = data, data.take(*PROFILE_IMAGE_COUNTS[options.profile])
    refusal = external_not_applicable_reason(
        attack,
        originals=data.test_originals is not None,
        public=public is not None,
        oracle=oracle is not None,
        key_per_image=key_per_image,
    )
    if refusal:
        raise AttackFailed(refusal)
    image_split = _split_upload(attack, data, public)
    candidates = candidate_schemes(attack, *data.test.shape[1:3], key_per_image=key_per_image)
    controls_start = 1.0 if data.test_originals is None else controls_start_fraction(attack, len(candidates))
    hashes = {"dataset_sha256": full_data.sha256, "originals_sha256": full_data.originals_sha256}
    attempts, failures = list[_Attempt](), list[AttackFailed]()

    def run(index: int, *, ablation: bool) -> AttackResult:
        label, scheme = candidates[index]
        report = _attempt_report(context, index, len(candidates), controls_start, label)
        run_context = replace(context, report=report, ablation=ablation)
        attack_input = build_attack_input(scheme, attack, image_split, _uploaded_ciphertexts(data), context=run_context)
        if attack_input.oracle is not None:
            attack_input = replace(attack_input, oracle=oracle)
        return run_attack(attack, attack_input, run_context)

    for index, (label, scheme) in enumerate(candidates):
        attempt_started_at = time.monotonic()
        try:
            # Only the curve of the best attempt is shown, and it takes longer than the attack.
            attack_result = run(index, ablation=context.ablation and len(candidates) == 1)
            if attack_result.similarities is not None:
                assert data.test_originals is not None  # pairs need originals
                originals = Originals.build(data.test_originals, image_split.public, seed=options.seed)
                seconds = time.monotonic() - attempt_started_at
                return link_outcome(
                    scheme, attack, image_split, originals, data.test, attack_result, seconds, options,
                    controls_context(context, controls_start), data.notes, started_at,
                ).with_result(**hashes)  # fmt: skip
            reconstructed = attack_result.reconstruct_each(data.test)
        except AttackFailed as reason:
            failures.append(type(reason)(f"as {label}: {reason}") if label else reason)
            continue
        seconds = time.monotonic() - attempt_started_at
        quality = _score_attempt(reconstructed, data.test_originals, options)
        attempts.append(_Attempt(quality, index, label, attack_result, seconds))
    if not attempts:
        error = DoesNotApply if all(isinstance(each, DoesNotApply) for each in failures) else AttackFailed
        raise error("; ".join(map(str, failures)) or "no known scheme takes images of this size")
    attempts.sort(key=lambda attempt: attempt.quality, reverse=True)
    best = attempts[0]
    notes = [*data.notes]
    if best.label:
        notes.append(f"best as if the scheme were {best.label}, of {len(candidates)} tried")
    if data.test_originals is None:
        return _unscored_result(
            attack, data.test, best, image_split.public, options, context, notes, started_at
        ).with_result(**hashes)
    if context.ablation and len(candidates) > 1:
        with suppress(AttackFailed):  # a curve that fails takes nothing from the recovery
            best = replace(best, attack_result=run(best.index, ablation=True))
    unused = full_data.test_originals[len(data.test) :] if full_data.test_originals is not None else None
    originals = Originals.build(data.test_originals, unused, public, seed=options.seed)
    trial = score(originals, data.test, best.attack_result, options, best.seconds)
    rejected = [
        originals.match(originals.orient(result.reconstruct_each(data.test), result, options.ssim_mode).images)
        for result in (attempt.attack_result for attempt in attempts[1:])
    ]
    control_run = run_controls(
        dict(candidates)[best.label],
        attack.for_controls(),
        image_split,
        originals,
        controls_context(context, controls_start),
    )
    recogniser, recogniser_notes = _recognition_rate(full_data, data.test_originals, trial, options, context)
    return build_outcome(
        attack, originals, [trial], options, context, control_run, [*notes, *recogniser_notes], started_at,
        public=data.test[:0] if public is None else public, rejected=rejected,
    ).with_result(recogniser=recogniser, **hashes)  # fmt: skip


def _recognition_rate(
    full_data: ImageDataset, originals: Images, trial: KeyTrial, options: ScoringOptions, context: RunContext
) -> tuple[RecognitionRate | None, list[str]]:
    """originals: of the attacked images. The classifier learns from the originals of the other images."""
    if not options.utility or full_data.train_originals is None:
        return None, []
    from unveil.models.evaluation.classification_utility import limit_to_profile, recognition_rate

    data = limit_to_profile(full_data, options.profile)
    assert data.train_originals is not None
    return recognition_rate(data.train_originals, data, originals, [trial], options, context)


@dataclass(frozen=True)
class _Attempt:
    """The attack under the assumption of one scheme. quality: higher is better."""

    quality: float
    index: int  # of the candidate
    label: str
    attack_result: AttackResult
    seconds: float


def candidate_schemes(
    attack: Attack[Any], height: int, width: int, *, key_per_image: bool = False
) -> list[tuple[str, Scheme[Any, Any] | None]]:
    """The schemes to assume: none if the attack applies to unknown schemes, else each known scheme it applies to.

    Of schemes of which the attack uses the same, one is assumed: it would run in the same way for each.
    """
    if takes_unknown_scheme(attack, key_per_image=key_per_image):
        return [("", None)]
    known = [scheme for scheme in known_ciphers() if scheme.key_per_image or not key_per_image]
    applicable = [scheme for scheme in known if attack.not_applicable_reason(scheme) is None]
    fitting = [
        scheme for scheme in applicable if height % scheme.size_multiple == 0 and width % scheme.size_multiple == 0
    ]
    distinct = {attack.assumptions(scheme): scheme for scheme in reversed(fitting)}  # the first of equal ones stays
    chosen = [scheme for scheme in fitting if scheme is distinct[attack.assumptions(scheme)]]
    return [(" ".join([scheme.name, *map(str, vars(scheme.settings).values())]), scheme) for scheme in chosen]


def _split_upload(attack: Attack[Any], data: ImageDataset, public: Images | None) -> ImageSplit:
    """`_uploaded_ciphertexts` maps each of these images to its ciphertext by position in the upload."""
    targets = data.test if data.test_originals is None else data.test_originals
    train = data.train if data.train_originals is None else data.train_originals
    if Capability.PUBLIC_IMAGES not in attack.threat_model:
        public = None
    return split_images(attack, targets, train, public, data.train_labels)


def _uploaded_ciphertexts(data: ImageDataset) -> Any:
    """Returns the uploaded ciphertexts: of the targets first, then of the training images."""

    def protect(images: Images, first: int) -> Images:
        return data.test if first == 0 else data.train[: len(images)]

    return protect


def _score_attempt(images: Images, originals: Images | None, options: ScoringOptions) -> float:
    """SSIM to the originals, or else smoothness, which tells photographs from noise."""
    if originals is not None:
        return float(ssim(originals, images, options.ssim_mode).mean())
    values = images.astype(np.float32)
    roughness = np.abs(np.diff(values, axis=2)).mean() + np.abs(np.diff(values, axis=1)).mean()
    return -float(roughness / (values.std() + 1))


def _unscored_result(
    attack: Attack[Any],
    protected: Images,
    attempt: _Attempt,
    public: Images,
    options: ScoringOptions,
    context: RunContext,
    notes: list[str],
    started_at: float,
) -> CellOutcome[CellResult]:
    reconstructed = attempt.attack_result.reconstruct_each(protected)
    natural_looking, matched_public = find_natural_looking([protected], public)
    evidence = CellEvidence(
        attack.name, attack.threat_model.name, dict(vars(attack.settings)), "succeeded",
        natural_looking=natural_looking, matched_public=matched_public,
        effort=effort([attempt.attack_result], [attempt.seconds]),
    )  # fmt: skip
    found = cell_verdict(evidence, options.planned_cells)
    indices = np.unique(np.linspace(0, len(protected) - 1, min(options.samples, len(protected))).round().astype(int))
    result = CellResult(
        numbers=dict(attempt.attack_result.metrics),
        verdict=found.verdict,
        capabilities=[c for c in Capability if c in attack.threat_model],
        evidence=evidence,
        seconds=round(time.monotonic() - started_at, 3),
        device=context.device,
        notes=[
            *notes,
            *attempt.attack_result.notes,
            "no originals were uploaded: nothing can be scored; look at the samples, or upload `originals` for a score",
        ],
    )
    return CellOutcome(
        result,
        samples=[Sample(int(i), None, None, protected[i], reconstructed[i]) for i in indices],
        images=AttackedImages(protected, reconstructed),
    )


def _attempt_report(context: RunContext, index: int, count: int, controls_start: float, label: str) -> Any:
    def report(fraction: float, phase: str) -> None:
        context.report(controls_start * (index + fraction) / count, f"{phase}, as {label}" if label else phase)

    return report
