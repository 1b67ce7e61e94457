"""One cell of an evaluation: a scheme under an attack on a dataset, scored, with its controls.

    python -m models.evaluation --scheme tanaka --attack fr --data DIR --profile paper --out DIR

runs one cell without the service.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.catalog import effective_bits
from unveil.models.core import keystream
from unveil.models.core.cell_result import CellResult, UtilityResult
from unveil.models.core.images import Images, pad
from unveil.models.core.profiles import PROFILE_IMAGE_COUNTS
from unveil.models.core.run_context import RunContext
from unveil.models.core.verdict_rules.evidence import CellEvidence
from unveil.models.core.verdict_rules.rules import cell_verdict
from unveil.models.data.image_dataset import ImageDataset
from unveil.models.evaluation.attacker_view import ImageSplit, build_attack_input, protect_function, split_images
from unveil.models.evaluation.controls import controls_context, controls_start_fraction, run_controls
from unveil.models.evaluation.isolation import run_attack
from unveil.models.evaluation.linkage import link_outcome
from unveil.models.evaluation.originals import Originals
from unveil.models.evaluation.outcome import CellOutcome, build_outcome
from unveil.models.evaluation.scoring import ScoringOptions, score
from unveil.models.schemes.base import Scheme, seed_secret

_SHARED_IMAGES_NOTE = "the public images are the training images: half of these are the attacker's, half the owner's"
_NOISE_IMAGES = 4  # that show whether a recovered map decrypts every value of an image
_KEY_TRAINING_FRACTION = 0.5  # of the progress bar, if a key is trained first


def run_cell(
    scheme: Scheme[Any, Any],
    attack: Attack[Any],
    data: ImageDataset,
    options: ScoringOptions,
    context: RunContext,
    *,
    secret: bytes | None = None,
    public: Images | None = None,
) -> CellOutcome[CellResult]:
    """Protect, attack, score and run the controls.

    secret: of the key to use; else keys are derived from the seed, or one is trained. public: the attacker's images;
    without them, or if they are the training split itself, the attacker and the owner get half of that split each.
    Raises AttackFailed, Cancelled, ValueError (images that the scheme or the metric cannot take).
    """
    started_at = time.monotonic()
    full_data, data = data, data.take(*PROFILE_IMAGE_COUNTS[options.profile])
    if attack.max_targets is not None and len(data.test) > attack.max_targets:
        note = f"{attack.name} attacks the first {attack.max_targets} of {len(data.test)} images"
        data = replace(data.take(None, attack.max_targets), notes=(*data.notes, note))
    if len(data.test) == 0:
        raise ValueError(f"dataset {data.name} has no test images to attack")
    if public is not None and np.array_equal(public, full_data.train):
        public, data = None, replace(data, notes=(*data.notes, _SHARED_IMAGES_NOTE))
    public = None if public is None else pad(public, scheme.size_multiple)
    image_split = split_images(
        attack, pad(data.test, scheme.size_multiple), pad(data.train, scheme.size_multiple), public, data.train_labels
    )
    if attack.name == "brute-force":
        counted = _count_key_space(scheme, attack, image_split, context, started_at)
        return counted.with_result(dataset_sha256=full_data.sha256)
    unused = full_data.test[len(data.test) :]
    originals = Originals.build(data.test, unused, image_split.public, seed=options.seed)

    provenance = None
    if scheme.trains and secret is None:
        trained_key = scheme.train(full_data, context.scoped("key", 0, _KEY_TRAINING_FRACTION))
        secret, provenance = trained_key.secret, trained_key.provenance
        context = replace(context, report=_report_from(context.report, _KEY_TRAINING_FRACTION))
    secrets = (
        [secret]
        if secret
        else [_derive_secret(options.seed, k) for k in range(1 if attack.trains_network() else options.keys)]
    )
    controls_start = controls_start_fraction(attack, len(secrets))
    trials = []
    for index, key_secret in enumerate(secrets):
        report = _trial_report(context.report, index, len(secrets), controls_start)
        report(0.0, "protecting")  # lets a cancel in before an attack that never reports
        protect = protect_function(scheme, attack, key_secret, context.device, partial(report, 0.0, "protecting"))
        run_context = replace(
            context, report=report, seed=options.seed + index, ablation=context.ablation and index == 0
        )
        attack_input = build_attack_input(scheme, attack, image_split, protect, index, run_context)
        attack_started_at = time.monotonic()
        attack_result = run_attack(attack, attack_input, run_context)
        seconds = time.monotonic() - attack_started_at
        if attack_result.similarities is not None:
            notes = _collect_notes(scheme, attack, data, options, secret)
            rest = controls_context(context, controls_start)
            return link_outcome(
                scheme, attack, image_split, originals, attack_input.images, attack_result, seconds, options, rest,
                notes, started_at,
            ).with_result(trained_key=provenance, dataset_sha256=full_data.sha256)  # fmt: skip
        key_agreement = _key_agreement(scheme, key_secret, attack_result, image_split.targets)
        trials.append(score(originals, attack_input.images, attack_result, options, seconds, key_agreement))

    control_run = run_controls(
        scheme, attack.for_controls(), image_split, originals, controls_context(context, controls_start)
    )
    recogniser, recogniser_notes = None, list[str]()
    if options.utility:
        from unveil.models.evaluation.classification_utility import limit_to_profile, recognition_rate

        utility_data = limit_to_profile(full_data, options.profile)
        recogniser, recogniser_notes = recognition_rate(
            utility_data.train, utility_data, data.test, trials, options, context
        )
    notes = [*_collect_notes(scheme, attack, data, options, secret), *recogniser_notes]
    outcome = build_outcome(
        attack, originals, trials, options, context, control_run, notes, started_at, public=image_split.public
    )
    return outcome.with_result(
        paper_ssim=scheme.paper.ssim.get(attack.name) if scheme.paper else None,
        trained_key=provenance,
        recogniser=recogniser,
        dataset_sha256=full_data.sha256,
    )


def _derive_secret(seed: int, index: int) -> bytes:
    """Key `index` of an evaluation, derived from its seed so that the evaluation can be repeated."""
    root = seed.to_bytes(32, "big", signed=True)
    return seed_secret(keystream.derive_key(root, f"evaluation/key/{index}"))


def measure_utility(
    scheme: Scheme[Any, Any] | None,
    data: ImageDataset,
    options: ScoringOptions,
    context: RunContext,
    *,
    secret: bytes | None = None,
) -> CellOutcome[UtilityResult]:
    """What protection costs a classifier, under the first key of `run_cell`. scheme: None for uploaded ciphertexts.

    Raises AttackFailed, Cancelled, ValueError.
    """
    from unveil.models.evaluation.classification_utility import run_external_utility, run_utility

    if scheme is None:
        return run_external_utility(data, options, context)
    if scheme.trains and secret is None:
        secret = scheme.train(data, context.scoped("key", 0, _KEY_TRAINING_FRACTION)).secret
        context = replace(context, report=_report_from(context.report, _KEY_TRAINING_FRACTION))
    outcome = run_utility(scheme, data, options, context, secret or _derive_secret(options.seed, 0))
    return outcome.with_result(notes=[*filter(None, (scheme.missing_part_note(),)), *outcome.result.notes])


def _key_agreement(
    scheme: Scheme[Any, Any], secret: bytes, attack_result: AttackResult, targets: Images
) -> dict[str, Any] | None:
    """How much of the true key an attack found: by its parts, or else by the values that its map decrypts."""
    if attack_result.key is not None:
        true_key = scheme.key(secret, *targets.shape[1:3])
        shares = scheme.key_agreement(attack_result.key, true_key)
    elif attack_result.inverse is not None:
        noise = np.random.default_rng(0).integers(0, 256, (_NOISE_IMAGES, *targets.shape[1:]), np.uint8)
        shares = {"values": float((attack_result.inverse.decrypt(scheme.protect(noise, secret)) == noise).mean())}
    else:
        return None
    return {**shares, "exact": bool(min(shares.values()) == 1.0)}


def _collect_notes(
    scheme: Scheme[Any, Any],
    attack: Attack[Any],
    data: ImageDataset,
    options: ScoringOptions,
    secret: bytes | None,
) -> list[str]:
    notes = [*filter(None, (scheme.missing_part_note(),)), *data.notes]
    if options.keys > 1 and scheme.trains:
        notes.append("the key is a trained network: no further keys were drawn")
    elif options.keys > 1 and secret:
        notes.append("only the given key was used: no further keys were drawn")
    elif options.keys > 1 and attack.trains_network():
        notes.append("an attack that trains a network runs on the first key only")
    if data.test.shape[1] % scheme.size_multiple or data.test.shape[2] % scheme.size_multiple:
        padded = f"images were padded to multiples of {scheme.size_multiple} by edge replication"
        notes.append(f"{padded}; the padding is not scored")
    return notes


def _count_key_space(
    scheme: Scheme[Any, Any], attack: Attack[Any], image_split: ImageSplit, context: RunContext, started_at: float
) -> CellOutcome[CellResult]:
    height, width = image_split.targets.shape[1:3]
    attack_result = attack.run(AttackInput(scheme, image_split.targets[:0], image_split.targets[:0]), context)
    bits = effective_bits(scheme, height, width)
    evidence = CellEvidence(attack.name, attack.threat_model.name, {}, "succeeded", effective_bits=bits)
    result = CellResult(
        key_space_bits=attack_result.metrics["key_space_bits"],
        effective_bits=bits,
        verdict=cell_verdict(evidence, 1).verdict,
        evidence=evidence,
        seconds=round(time.monotonic() - started_at, 3),
        device=context.device,
        notes=[
            *filter(None, (scheme.missing_part_note(),)),
            f"for one image of {width}x{height}",
            *attack_result.notes,
        ],
    )
    return CellOutcome(result)


def _report_from(report: Callable[[float, str], None], start: float) -> Callable[[float, str], None]:
    return lambda fraction, phase: report(start + (1 - start) * fraction, phase)


def _trial_report(
    report: Callable[[float, str], None], index: int, key_count: int, controls_start: float
) -> Callable[[float, str], None]:
    """Progress of the attack on one key of several, which together come to `end`."""

    def inner(fraction: float, phase: str) -> None:
        report(
            controls_start * (index + fraction) / key_count,
            phase if key_count == 1 else f"{phase}, key {index + 1} of {key_count}",
        )

    return inner
