"""An auditor's own ciphertexts, of a scheme we may not know: every attack that the uploaded material allows."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from unveil.models.attacks.base import Attack, Outcome
from unveil.models.catalog import describe_scheme, external_refusal, make_scheme, schemes
from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images
from unveil.models.core.profiles import LIMITS
from unveil.models.core.run_context import Context
from unveil.models.core.threat_models import ThreatModel
from unveil.models.data.datasets import Data
from unveil.models.evaluation.attacker_view import Lab, allowed, lay_out
from unveil.models.evaluation.controls import begin_of_controls, during_controls, run_controls
from unveil.models.evaluation.scoring import CellResult, Options, Sample, cell_result, score
from unveil.models.metrics.image_metrics import ssim
from unveil.models.schemes.base import Scheme


def run_external(
    attack: Attack[Any], data: Data, options: Options, context: Context, *, public: Images | None = None
) -> CellResult:
    """Attack the ciphertexts `data.test`; scored where `data.test_originals` are known.

    An attack made for certain schemes is tried as if the ciphertexts were of each of them, and the best attempt
    counts. Raises AttackFailed, Cancelled.
    """
    started = time.monotonic()
    whole, data = data, data.first(*LIMITS[options.profile])
    refusal = external_refusal(attack, originals=data.test_originals is not None, public=public is not None)
    if refusal:
        raise AttackFailed(refusal)
    lab = _lay_out(attack, data, public)
    guesses = guess_schemes(attack, *data.test.shape[1:3])
    end = 1.0 if data.test_originals is None else begin_of_controls(attack, len(guesses))
    tried: list[tuple[float, str, Outcome]] = []
    failures: list[str] = []
    for number, (label, scheme) in enumerate(guesses):
        material = allowed(scheme, attack, lab, _given(data))
        try:
            outcome = attack.run(material, replace(context, report=_part(context, number, len(guesses), end, label)))
        except AttackFailed as reason:
            failures.append(f"as {label}: {reason}" if label else str(reason))
            continue
        if outcome.reconstructed is not None:
            tried.append((_merit(outcome.reconstructed, data.test_originals, options), label, outcome))
    if not tried:
        raise AttackFailed("; ".join(failures) or "no known scheme takes images of this size")
    _, label, best = max(tried, key=lambda attempt: attempt[0])
    notes = [f"best as if the scheme were {label}, of {len(guesses)} tried"] if label else []
    if data.test_originals is None:
        return _unscored(data.test, best, options, context, notes, started)
    controls, shared = run_controls(dict(guesses)[label], attack, lab, during_controls(context, end))
    rounds = [score(data.test_originals, data.test, best, options)]
    recogniser = None
    if options.utility and data.train_originals is not None:
        from unveil.models.evaluation.classification_utility import recognised, taken

        of = taken(whole, options.profile)
        assert of.train_originals is not None
        recogniser, unrecognised = recognised(of.train_originals, of, data.test_originals, rounds, options, context)
        notes += unrecognised
    notes += shared
    done = cell_result(data.test_originals, rounds, options, context, controls, notes, None, started)
    return replace(done, result={**done.result, "recogniser": recogniser}) if recogniser else done


def guess_schemes(attack: Attack[Any], height: int, width: int) -> list[tuple[str, Scheme[Any, Any] | None]]:
    """What an attack may take the ciphertexts for: nothing in particular, or each known scheme it was made for."""
    known = [
        make_scheme(name, variant["params"])
        for name in schemes()
        if not schemes()[name].trains
        for variant in describe_scheme(name)["variants"]
    ]
    taken = [scheme for scheme in known if attack.refuses(scheme) is None]
    if len(taken) == len(known):
        return [("", None)]
    fitting = [scheme for scheme in taken if height % scheme.multiple == 0 and width % scheme.multiple == 0]
    return [(" ".join([scheme.name, *map(str, vars(scheme.settings).values())]), scheme) for scheme in fitting]


def _lay_out(attack: Attack[Any], data: Data, public: Images | None) -> Lab:
    """Images stand for the places in the upload where `_given` finds their ciphertexts."""
    targets = data.test if data.test_originals is None else data.test_originals
    train = data.train if data.train_originals is None else data.train_originals
    if attack.threat_model is not ThreatModel.PUBLIC_IMAGES:
        public = None
    return lay_out(attack, targets, train, public)


def _given(data: Data) -> Any:
    """The ciphertexts as they were uploaded: targets first, then the others."""

    def protect(images: Images, first: int) -> Images:
        return data.test if first == 0 else data.train[: len(images)]

    return protect


def _merit(images: Images, originals: Images | None, options: Options) -> float:
    """How good an attempt is: SSIM where originals are known, else how smooth: photographs are, noise is not."""
    if originals is not None:
        return float(ssim(originals, images, options.ssim_mode).mean())
    values = images.astype(np.float32)
    rough = np.abs(np.diff(values, axis=2)).mean() + np.abs(np.diff(values, axis=1)).mean()
    return -float(rough / (values.std() + 1))


def _unscored(
    protected: Images, outcome: Outcome, options: Options, context: Context, notes: list[str], started: float
) -> CellResult:
    seen = outcome.reconstructed
    assert seen is not None
    chosen = np.unique(np.linspace(0, len(protected) - 1, min(options.samples, len(protected))).round().astype(int))
    result: dict[str, Any] = {
        "ssim": None,
        "psnr": None,
        "identification": None,
        "key_agreement": None,
        "key_space_bits": None,
        "paper_ssim": None,
        "controls": None,
        "numbers": dict(outcome.numbers),
        "device": context.device,
        "notes": [
            *notes,
            *outcome.notes,
            "no originals were uploaded: nothing can be scored, look at the samples; upload `originals` for a score",
        ],
        "verdict": "inconclusive",
        "seconds": round(time.monotonic() - started, 3),
    }
    return CellResult(result, samples=[Sample(int(i), None, None, protected[i], seen[i]) for i in chosen])


def _part(context: Context, number: int, count: int, end: float, label: str) -> Any:
    def report(fraction: float, phase: str) -> None:
        context.report(end * (number + fraction) / count, f"{phase}, as {label}" if label else phase)

    return report
