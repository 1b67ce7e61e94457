"""From what an attack brought back to figures: per image, pooled over keys, and the samples to look at."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unveil.models.attacks.base import AttackResult
from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images
from unveil.models.core.profiles import Profile
from unveil.models.core.run_context import RunContext
from unveil.models.core.verdicts import cell_verdict
from unveil.models.metrics.identification import SCALES, identification
from unveil.models.metrics.intervals import binomial_interval, summary
from unveil.models.metrics.psnr import psnr
from unveil.models.metrics.ssim import SsimMode, ssim

LEAK_CONFIDENCE = 0.99  # above chance means surely so
_MAX_COMMON_SAMPLES = 2  # at most


@dataclass(frozen=True)
class ScoringOptions:
    """How a cell is run. keys: independent keys drawn for a keyed scheme under an attack that needs no training.

    utility: a classifier of plain images also looks at the reconstructions (models/utility.py).
    """

    seed: int = 0
    keys: int = 3
    samples: int = 8
    ssim_mode: SsimMode = "rgb7"
    profile: Profile = "paper"
    utility: bool = False


@dataclass(frozen=True)
class Sample:
    """A triple to look at: uint8 [H, W, 3] each; ssim is None where no original is known."""

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
class CellResult:
    result: dict[str, Any]  # JSON, in the shape of the API
    samples: list[Sample] = field(default_factory=list)
    scores: Scores | None = None
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    recovered_key: dict[str, Any] | None = None  # explicit key material an attack found: a secret


@dataclass
class KeyTrial:
    """One key's share of a cell."""

    protected: Images
    attack_result: AttackResult
    ssim: npt.NDArray[np.float64]
    psnr: npt.NDArray[np.float64]
    ranks: npt.NDArray[np.int64]  # [4, N]
    curves: dict[str, list[list[float]]]
    key_agreement: dict[str, Any] | None = None

    @property
    def reconstructed(self) -> Images:
        """The reconstructions: `score` made sure that there are some."""
        assert self.attack_result.reconstructed is not None
        return self.attack_result.reconstructed


def score(
    plain: Images,
    protected: Images,
    attack_result: AttackResult,
    options: ScoringOptions,
    key_agreement: dict[str, Any] | None = None,
) -> KeyTrial:
    """Protected images may be larger than the plain ones: what padding added is nobody's picture, and not scored.

    Raises AttackFailed unless the outcome has an image for each protected one.
    """
    reconstructed, (height, width) = attack_result.reconstructed, plain.shape[1:3]
    if reconstructed is None or reconstructed.shape != protected.shape or reconstructed.dtype != np.uint8:
        raise AttackFailed("the attack brought back no image for each of its targets")
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


def build_cell_result(
    plain: Images,
    trials: list[KeyTrial],
    options: ScoringOptions,
    context: RunContext,
    controls: dict[str, str] | None,
    notes: list[str],
    paper_ssim: float | None,
    started_at: float,
    recovered_key: dict[str, Any] | None = None,
) -> CellResult:
    """The whole result of a scored cell; `started` on time.monotonic's clock."""
    first_trial, figures = trials[0], _pool_trials(trials, options)
    result = {
        **figures,
        "key_space_bits": None,
        "paper_ssim": paper_ssim,
        "controls": controls,
        "device": context.device,
        "notes": [*notes, *first_trial.attack_result.notes],
    }
    result["verdict"] = cell_verdict(result)
    result["seconds"] = round(time.monotonic() - started_at, 3)
    scale = SCALES.index(figures["identification"]["scale"])
    return CellResult(
        result,
        samples=choose_samples(plain, first_trial, options.samples),
        scores=Scores(
            index=np.arange(len(plain)),
            ssim=np.mean([r.ssim for r in trials], axis=0),
            psnr=np.mean([r.psnr for r in trials], axis=0),
            rank=np.mean([r.ranks[scale] for r in trials], axis=0),
        ),
        curves=first_trial.curves,
        recovered_key=recovered_key,
    )


def _pool_trials(trials: list[KeyTrial], options: ScoringOptions) -> dict[str, Any]:
    """Figures over all keys: each image's mean over keys is one observation; the means per key stand beside."""
    values = {name: np.mean([getattr(r, name) for r in trials], axis=0) for name in ("ssim", "psnr")}
    figures: dict[str, Any] = {
        "ssim": {"mode": options.ssim_mode, **summary(values["ssim"], options.seed)},
        "psnr": summary(values["psnr"], options.seed),
        "identification": identification_summary([r.ranks for r in trials], LEAK_CONFIDENCE),
        "key_agreement": trials[0].key_agreement,
        "numbers": dict(trials[0].attack_result.metrics),
    }
    if len(trials) > 1:
        figures["ssim"]["per_key"] = [float(r.ssim.mean()) for r in trials]
        if trials[0].key_agreement is not None:
            # the worst of the keys: exact means exact for each of them
            figures["key_agreement"] = {
                name: min(r.key_agreement[name] for r in trials if r.key_agreement) for name in trials[0].key_agreement
            }
    return figures


def identification_summary(ranks: list[npt.NDArray[np.int64]], confidence: float) -> dict[str, Any]:
    """Top-1 rate at the best scale, its 95 % interval and whether it is above chance, corrected for four scales."""
    by_key = np.stack([(r == 1).mean(axis=1) for r in ranks])  # [keys, 4]
    gallery = ranks[0].shape[1]
    best = int(by_key.mean(axis=0).argmax())
    rate = float(by_key[:, best].mean())
    low, high = binomial_interval(rate * gallery, gallery, 1 - 0.05 / len(SCALES))
    lower_bound, _ = binomial_interval(rate * gallery, gallery, 1 - 2 * (1 - confidence) / len(SCALES))
    figures = {
        "top1": rate,
        "chance": 1 / gallery,
        "ci_low": low,
        "ci_high": high,
        "gallery": gallery,
        "scale": SCALES[best],
        "above_chance": gallery > 1 and lower_bound > 1 / gallery,
    }
    if len(ranks) > 1:
        figures["per_key"] = [float(rate) for rate in by_key[:, best]]
    return figures


def choose_samples(plain: Images, trial: KeyTrial, count: int) -> list[Sample]:
    """By SSIM, lowest first: the worst, the best and, between them, every so many; and the first images of all.

    Every cell keeps those, so that one image can be seen under all schemes and attacks.
    """
    order = np.argsort(trial.ssim)
    common = np.arange(min(-(-count // 4), _MAX_COMMON_SAMPLES, len(order)))
    others = order[~np.isin(order, common)]
    spread = np.linspace(0, len(others) - 1, min(count - len(common), len(others))).round().astype(int)
    indices = order[np.isin(order, np.concatenate([common, others[np.unique(spread)]]))]
    return [Sample(int(i), float(trial.ssim[i]), plain[i], trial.protected[i], trial.reconstructed[i]) for i in indices]
