"""Scores the reconstructions of an attack: per image, pooled over keys; chooses the samples to store."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from unveil.models.attacks.base import AttackResult
from unveil.models.core.cell_result import (
    CellResult,
    Controls,
    IdentificationSummary,
    ScoreSummary,
    SsimSummary,
    UtilityResult,
)
from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images
from unveil.models.core.profiles import Profile
from unveil.models.core.run_context import RunContext
from unveil.models.core.verdicts import with_verdict
from unveil.models.metrics.identification import SCALES, identification
from unveil.models.metrics.intervals import binomial_interval, summary
from unveil.models.metrics.psnr import psnr
from unveil.models.metrics.ssim import SsimMode, ssim

LEAK_CONFIDENCE = 0.99  # of the test whether identification is above chance
_MAX_COMMON_SAMPLES = 2

R = TypeVar("R", CellResult, UtilityResult)


@dataclass(frozen=True)
class ScoringOptions:
    """How a cell is run. keys: independent keys drawn for a keyed scheme under an attack that needs no training.

    utility: a classifier of plain images also classifies the reconstructions.
    """

    seed: int = 0
    keys: int = 3
    samples: int = 8
    ssim_mode: SsimMode = "rgb7"
    profile: Profile = "paper"
    utility: bool = False


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
    """Per image, pooled over keys: mean SSIM, mean PSNR in dB, mean rank in the identification gallery."""

    index: npt.NDArray[np.int64]
    ssim: npt.NDArray[np.float64]
    psnr: npt.NDArray[np.float64]
    rank: npt.NDArray[np.float64]


@dataclass(frozen=True)
class CellOutcome(Generic[R]):
    """What a worker stores of a finished cell: its result, and what is stored beside it."""

    result: R
    samples: list[Sample] = field(default_factory=list)
    scores: Scores | None = None
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    recovered_key: dict[str, Any] | None = None  # explicit key material that an attack found: a secret


AnyOutcome = CellOutcome[CellResult] | CellOutcome[UtilityResult]


@dataclass
class KeyTrial:
    """The attack on one of a cell's keys, scored."""

    protected: Images
    attack_result: AttackResult
    ssim: npt.NDArray[np.float64]
    psnr: npt.NDArray[np.float64]
    ranks: npt.NDArray[np.int64]  # [4, N]
    curves: dict[str, list[list[float]]]
    key_agreement: dict[str, Any] | None = None

    @property
    def reconstructed(self) -> Images:
        """`score` rejects an attack without reconstructions."""
        assert self.attack_result.reconstructed is not None
        return self.attack_result.reconstructed


def score(
    plain: Images,
    protected: Images,
    attack_result: AttackResult,
    options: ScoringOptions,
    key_agreement: dict[str, Any] | None = None,
) -> KeyTrial:
    """Scores one trial. Protected images may be larger than plain ones: the padding is not scored.

    Raises AttackFailed unless there is a reconstruction of each protected image.
    """
    reconstructed, (height, width) = attack_result.reconstructed, plain.shape[1:3]
    if reconstructed is None or reconstructed.shape != protected.shape or reconstructed.dtype != np.uint8:
        raise AttackFailed("the attack did not return one image for each protected image")
    reconstructed = reconstructed[:, :height, :width]
    curves: dict[str, list[list[float]]] = {}
    for name, x, images in attack_result.ablation:
        values = ssim(plain[: len(images)], images[:, :height, :width], options.ssim_mode)
        curves.setdefault(name, []).append([x, float(values.mean())])
    return KeyTrial(
        protected,
        replace(attack_result, reconstructed=reconstructed),
        ssim(plain, reconstructed, options.ssim_mode),
        psnr(plain, reconstructed),
        identification(plain, reconstructed).ranks,
        curves,
        key_agreement,
    )


def build_outcome(
    plain: Images,
    trials: list[KeyTrial],
    options: ScoringOptions,
    context: RunContext,
    controls: Controls | None,
    notes: list[str],
    started_at: float,
) -> CellOutcome[CellResult]:
    """The outcome of a scored cell. Each image's mean over the keys is one observation.

    started_at: on time.monotonic's clock.
    """
    first_trial = trials[0]
    ssims, psnrs = (np.mean([getattr(trial, name) for trial in trials], axis=0) for name in ("ssim", "psnr"))
    per_key = [float(trial.ssim.mean()) for trial in trials] if len(trials) > 1 else None
    identified = identification_summary([trial.ranks for trial in trials], LEAK_CONFIDENCE)
    result = CellResult(
        ssim=SsimSummary(mode=options.ssim_mode, per_key=per_key, **summary(ssims, options.seed)),
        psnr=ScoreSummary(**summary(psnrs, options.seed)),
        identification=identified,
        key_agreement=_worst_key_agreement(trials),
        controls=controls,
        numbers=dict(first_trial.attack_result.metrics),
        verdict="inconclusive",
        seconds=round(time.monotonic() - started_at, 3),
        device=context.device,
        notes=[*notes, *first_trial.attack_result.notes],
    )
    scale = SCALES.index(identified.scale)
    return CellOutcome(
        with_verdict(result),
        samples=choose_samples(plain, first_trial, options.samples),
        scores=Scores(
            index=np.arange(len(plain)),
            ssim=ssims,
            psnr=psnrs,
            rank=np.mean([trial.ranks[scale] for trial in trials], axis=0),
        ),
        curves=first_trial.curves,
    )


def _worst_key_agreement(trials: list[KeyTrial]) -> dict[str, Any] | None:
    """By part, the least over the keys: exact means that the attack found each of them."""
    first = trials[0].key_agreement
    found = [trial.key_agreement for trial in trials if trial.key_agreement]
    return first and {part: min(agreement[part] for agreement in found) for part in first}


def identification_summary(ranks: list[npt.NDArray[np.int64]], confidence: float) -> IdentificationSummary:
    """Top-1 rate at the best scale, its 95 % interval, and whether it is above chance, corrected for four scales."""
    by_key = np.stack([(r == 1).mean(axis=1) for r in ranks])  # [keys, 4]
    gallery = ranks[0].shape[1]
    best = int(by_key.mean(axis=0).argmax())
    rate = float(by_key[:, best].mean())
    low, high = binomial_interval(rate * gallery, gallery, 1 - 0.05 / len(SCALES))
    lower_bound, _ = binomial_interval(rate * gallery, gallery, 1 - 2 * (1 - confidence) / len(SCALES))
    return IdentificationSummary(
        top1=rate,
        chance=1 / gallery,
        ci_low=low,
        ci_high=high,
        gallery=gallery,
        scale=SCALES[best],
        above_chance=bool(gallery > 1 and lower_bound > 1 / gallery),
        per_key=[float(rate) for rate in by_key[:, best]] if len(ranks) > 1 else None,
    )


def choose_samples(plain: Images, trial: KeyTrial, count: int) -> list[Sample]:
    """Evenly spread over the SSIM order, lowest first, with the first images of the dataset among them.

    Every cell stores the first images, so that one image can be compared under all schemes and attacks.
    """
    order = np.argsort(trial.ssim)
    common = np.arange(min(-(-count // 4), _MAX_COMMON_SAMPLES, len(order)))
    others = order[~np.isin(order, common)]
    spread = np.linspace(0, len(others) - 1, min(count - len(common), len(others))).round().astype(int)
    indices = order[np.isin(order, np.concatenate([common, others[np.unique(spread)]]))]
    return [Sample(int(i), float(trial.ssim[i]), plain[i], trial.protected[i], trial.reconstructed[i]) for i in indices]
