"""The outcome of a cell: its result, and the samples, scores and curves that are stored beside it."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from unveil.models.attacks.base import Attack
from unveil.models.core.cell_result import AssemblySummary, CellResult, ScoreSummary, SsimSummary, UtilityResult
from unveil.models.core.images import Images
from unveil.models.core.run_context import RunContext
from unveil.models.core.threat_models import Capability
from unveil.models.core.verdict_rules.rules import cell_verdict
from unveil.models.evaluation import calibration
from unveil.models.evaluation.attacked_images import AttackedImages, from_trial
from unveil.models.evaluation.cell_evidence import build_evidence, summarize_identification
from unveil.models.evaluation.controls import ControlRun
from unveil.models.evaluation.originals import Originals
from unveil.models.evaluation.plugin_metrics import score_plugin_metrics
from unveil.models.evaluation.scoring import KeyTrial, ScoringOptions
from unveil.models.metrics.fixed_positions import fixed_positions
from unveil.models.metrics.intervals import summary
from unveil.models.metrics.matching import Matches
from unveil.models.metrics.psnr import mse, psnr
from unveil.models.metrics.ssim import ssim

_CALIBRATION_IMAGES, _MIN_CALIBRATION_IMAGES = 50, 10
_MAX_COMMON_SAMPLES = 2
_MAX_LEAKING_SAMPLES = 4
_MIN_SAMPLES_WITH_MEDIAN = 3  # fewer hold a leaking image and the first one

R = TypeVar("R", CellResult, UtilityResult)


@dataclass(frozen=True)
class Sample:
    """A stored triple: uint8 [H, W, 3] each; ssim is None without an original."""

    index: int
    ssim: float | None
    plain: Images | None
    protected: Images
    reconstructed: Images


@dataclass(frozen=True)
class Scores:
    """Per image, means over keys: SSIM, PSNR in dB, rank in the gallery by the best comparison, VIF."""

    index: npt.NDArray[np.int64]
    ssim: npt.NDArray[np.float64]
    psnr: npt.NDArray[np.float64]
    rank: npt.NDArray[np.float64]
    vif: npt.NDArray[np.float64] | None = None  # None: the images are too small for it

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Those that there are, by name."""
        return {name: values for name, values in vars(self).items() if values is not None}


@dataclass(frozen=True)
class CellOutcome(Generic[R]):
    """What a worker stores of a finished cell: its result, and what is stored beside it."""

    result: R
    samples: list[Sample] = field(default_factory=list)
    scores: Scores | None = None
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    reconstructed: Images | None = None  # of every test image, under the first key
    images: AttackedImages | None = None

    def with_result(self, **fields: Any) -> CellOutcome[R]:
        """With other values of these fields of the result."""
        return replace(self, result=replace(self.result, **fields))


AnyOutcome = CellOutcome[CellResult] | CellOutcome[UtilityResult]


def build_outcome(
    attack: Attack[Any],
    originals: Originals,
    trials: Sequence[KeyTrial],
    options: ScoringOptions,
    context: RunContext,
    control_run: ControlRun,
    notes: Sequence[str],
    started_at: float,
    *,
    public: Images,
    rejected: Sequence[Matches] = (),
) -> CellOutcome[CellResult]:
    """The outcome of a scored cell. Each image's mean over the keys is one observation.

    started_at: on time.monotonic's clock. public: the attacker's images, maybe none. rejected: as in `build_evidence`.
    """
    first_trial = trials[0]
    ssims, psnrs = (np.mean([getattr(trial, name) for trial in trials], axis=0) for name in ("ssim", "psnr"))
    measured = [trial.vif for trial in trials if trial.vif is not None]
    vifs = np.mean(measured, axis=0) if measured else None
    evidence = build_evidence(attack, trials, control_run, public, rejected=rejected, seed=options.seed)
    identification = summarize_identification(trials, evidence.keys)
    found = cell_verdict(evidence, options.planned_cells)
    reconstructions = [trial.reconstructed for trial in trials]
    metrics, metric_notes = score_plugin_metrics(originals.images, reconstructions, options.seed)
    result = CellResult(
        ssim=SsimSummary(
            mode=options.ssim_mode,
            per_key=[float(trial.ssim.mean()) for trial in trials] if len(trials) > 1 else None,
            **summary(ssims, options.seed),
        ),
        psnr=ScoreSummary(**summary(psnrs, options.seed)),
        vif=None if vifs is None else ScoreSummary(**summary(vifs, options.seed)),
        assembly=_assembly_summary(trials),
        fixed_positions=_fixed_positions(originals.images, first_trial) if attack.name == "none" else None,
        identification=identification,
        key_agreement=_worst_key_agreement(trials),
        controls=control_run.controls,
        metrics=metrics,
        numbers=dict(first_trial.attack_result.metrics),
        verdict=found.verdict,
        median_image=median_image(first_trial.ssim),
        leaking_images=list(found.leaking_images),
        comparison=found.comparison,
        ambiguity=first_trial.attack_result.ambiguity,
        capabilities=[c for c in Capability if c in attack.threat_model],
        evidence=evidence,
        seconds=round(time.monotonic() - started_at, 3),
        device=context.device,
        notes=[
            *notes,
            *control_run.notes,
            *_calibration_notes(attack, originals, trials, options, context),
            *_orientation_notes(trials),
            *first_trial.matches.notes,
            *metric_notes,
            *first_trial.attack_result.notes,
        ],
    )
    assert identification.comparison is not None
    ranks = [trial.matches[identification.comparison].rank for trial in trials]
    return CellOutcome(
        result,
        samples=choose_samples(originals.images, first_trial, options.samples, result.leaking_images),
        scores=Scores(np.arange(len(originals.images)), ssims, psnrs, np.mean(ranks, axis=0), vifs),
        curves=first_trial.curves,
        reconstructed=first_trial.reconstructed,
        images=from_trial(originals, first_trial, identification.comparison),
    )


def median_image(ssim: npt.NDArray[np.float64]) -> int:
    """Index of the image with the median SSIM; of an even number, the lower of the two."""
    return int(np.argsort(ssim, kind="stable")[(len(ssim) - 1) // 2])


def _assembly_summary(trials: Sequence[KeyTrial]) -> AssemblySummary | None:
    """Means over images and keys; None for an attack that puts no blocks together."""
    found = [trial.assembly for trial in trials if trial.assembly is not None]
    if not found:
        return None
    means = {part: float(np.mean([getattr(each, part) for each in found])) for part in vars(found[0])}
    return AssemblySummary(**means)


def _fixed_positions(plain: Images, trial: KeyTrial) -> float:
    height, width = plain.shape[1:3]
    return fixed_positions(plain, trial.protected[:, :height, :width])


def _worst_key_agreement(trials: Sequence[KeyTrial]) -> dict[str, Any] | None:
    """By part, the least over the keys: exact means that the attack found each of them."""
    first = trials[0].key_agreement
    found = [trial.key_agreement for trial in trials if trial.key_agreement]
    return first and {part: min(agreement[part] for agreement in found) for part in first}


def _calibration_notes(
    attack: Attack[Any], originals: Originals, trials: Sequence[KeyTrial], options: ScoringOptions, context: RunContext
) -> list[str]:
    """Which metrics do not recognize which distortions: with attack `none`, and images as wrong as the attack's."""
    count = min(len(originals.images), _CALIBRATION_IMAGES)
    if count < _MIN_CALIBRATION_IMAGES:
        return []
    tested = originals.repeated(count)
    plain, gallery = tested.images, tested.gallery
    metrics: dict[str, calibration.PairMetric] = {"ssim": partial(ssim, mode=options.ssim_mode), "psnr": psnr}
    if attack.name == "none":
        digests = "-".join(str(zlib.crc32(np.ascontiguousarray(images).data)) for images in (plain, gallery.images))
        name = f"calibration/{options.ssim_mode}/{'x'.join(map(str, plain.shape))}/{digests}"

        def compute() -> bytes:
            images = calibration.calibration_images(plain)
            return json.dumps(calibration.calibrate(plain, gallery, images, metrics)).encode()

        return list(json.loads(context.memoize(name, compute)))
    error = float(np.mean([mse(plain, trial.reconstructed[:count]).mean() for trial in trials]))
    degraded = calibration.degrade(plain, error, np.random.default_rng(options.seed))
    return calibration.calibrate(plain, gallery, {"degraded to the attack's error": degraded}, metrics)


def _orientation_notes(trials: Sequence[KeyTrial]) -> list[str]:
    found = dict.fromkeys(trial.orientation for trial in trials if trial.orientation != (0, False))
    return [
        "scored after the reconstructions were "
        + " and ".join([*(["mirrored"] if mirrored else []), *([f"turned by {90 * turns} degrees"] if turns else [])])
        for turns, mirrored in found
    ]


def choose_samples(plain: Images, trial: KeyTrial, count: int, leaking: Sequence[int] = ()) -> list[Sample]:
    """Leaking images first, then a spread over the SSIM order, lowest first, with the first images of the dataset.

    Every cell stores the first images, so that one image can be compared under all schemes and attacks, and of three
    samples or more the median image, which stands for the cell.
    """
    order = np.argsort(trial.ssim)
    first = list(leaking[: min(_MAX_LEAKING_SAMPLES, count // 2)])
    common = [i for i in range(min(-(-count // 4), _MAX_COMMON_SAMPLES, len(order))) if i not in first]
    median = median_image(trial.ssim)
    if count >= _MIN_SAMPLES_WITH_MEDIAN and median not in [*first, *common]:
        common.append(median)
    others = order[~np.isin(order, common + first)]
    spread = np.linspace(0, len(others) - 1, min(count - len(common) - len(first), len(others))).round().astype(int)
    rest = order[np.isin(order, [*common, *others[np.unique(spread)]])]
    return [
        Sample(int(i), float(trial.ssim[i]), plain[i], trial.protected[i], trial.reconstructed[i])
        for i in [*first, *rest]
    ]
