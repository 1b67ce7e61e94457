"""Scores the reconstructions of an attack on one key: per image, and by comparison with the gallery."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unveil.models.attacks.base import AttackResult
from unveil.models.core.images import Images
from unveil.models.core.profiles import Profile
from unveil.models.evaluation.assembly import Assembly, compare_assembly
from unveil.models.evaluation.originals import Originals
from unveil.models.metrics.ambiguity import Orientation
from unveil.models.metrics.matching import Matches
from unveil.models.metrics.psnr import psnr
from unveil.models.metrics.ssim import SsimMode, ssim
from unveil.models.metrics.vif import MIN_SIDE, vif


@dataclass(frozen=True)
class ScoringOptions:
    """How a cell is run. keys: independent keys drawn for a keyed scheme under an attack that needs no training.

    utility: a classifier of plain images also classifies the reconstructions. planned_cells: of the same scheme in the
    evaluation; they share the error of the verdict.
    """

    seed: int = 0
    keys: int = 3
    samples: int = 8
    ssim_mode: SsimMode = "rgb7"
    profile: Profile = "paper"
    utility: bool = False
    planned_cells: int = 1


@dataclass
class KeyTrial:
    """The attack on one of a cell's keys, scored. orientation: of all images, if one was chosen for all."""

    protected: Images
    attack_result: AttackResult
    orientation: Orientation
    ssim: npt.NDArray[np.float64]
    psnr: npt.NDArray[np.float64]
    vif: npt.NDArray[np.float64] | None  # None: the images are too small for it
    matches: Matches
    curves: dict[str, list[list[float]]]
    seconds: float
    key_agreement: dict[str, Any] | None = None
    assembly: Assembly | None = None  # None: the attack put no blocks together

    @property
    def reconstructed(self) -> Images:
        """`score` rejects an attack without reconstructions."""
        assert self.attack_result.reconstructed is not None
        return self.attack_result.reconstructed


def score(
    originals: Originals,
    protected: Images,
    attack_result: AttackResult,
    options: ScoringOptions,
    seconds: float,
    key_agreement: dict[str, Any] | None = None,
) -> KeyTrial:
    """Scores one trial. Protected images may be larger than plain ones: the padding is not scored.

    Raises AttackFailed unless there is a reconstruction of each protected image.
    """
    plain = originals.images
    oriented = originals.orient(attack_result.reconstruct_each(protected), attack_result, options.ssim_mode)
    side = attack_result.assembled_side
    curves: dict[str, list[list[float]]] = {}
    for name, x, images in attack_result.ablation:
        first = originals.repeated(len(images))
        values = ssim(first.images, first.orient(images, attack_result, options.ssim_mode).images, options.ssim_mode)
        curves.setdefault(name, []).append([x, float(values.mean())])
    return KeyTrial(
        protected,
        replace(attack_result, reconstructed=oriented.images),
        (0, False) if attack_result.ambiguity_per_image else oriented.orientations[0],
        ssim(plain, oriented.images, options.ssim_mode),
        psnr(plain, oriented.images),
        vif(plain, oriented.images) if min(plain.shape[1:3]) >= MIN_SIDE else None,
        originals.match(oriented.images),
        curves,
        seconds,
        key_agreement,
        compare_assembly(plain, oriented.images, side) if side is not None and min(plain.shape[1:3]) >= side else None,
    )
