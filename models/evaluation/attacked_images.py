"""Every attacked image of a cell under its first key: what a viewer shows beside the scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unveil.models.attacks.base import AttackResult
from unveil.models.core.images import Images
from unveil.models.evaluation.originals import Originals
from unveil.models.evaluation.scoring import KeyTrial
from unveil.models.metrics.gallery import Gallery
from unveil.models.metrics.line_up import LineUp, most_similar
from unveil.models.metrics.matching import line_up


@dataclass(frozen=True)
class AttackedImages:
    """N images and the gallery in which their originals are looked for.

    protected: uint8 [N, H, W, 3], maybe padded. reconstructed: of the size of the originals; None if the attack
    reconstructs nothing. originals: uint8 [N, H, W, 3], then `distractors`, as `line_up` numbers them; None if they are
    unknown. gallery: int64 [G], the numbers of the gallery's images. ssim: float64 [N].
    """

    protected: Images
    reconstructed: Images | None = None
    originals: Images | None = None
    distractors: Images | None = None
    gallery: npt.NDArray[np.int64] | None = None
    ssim: npt.NDArray[np.float64] | None = None
    line_up: LineUp | None = None


def from_trial(originals: Originals, trial: KeyTrial, comparison: str) -> AttackedImages:
    """The images of a scored trial, with the line-up of one comparison."""
    gallery = originals.gallery
    return AttackedImages(
        trial.protected,
        trial.reconstructed,
        originals.images,
        gallery.distractors,
        gallery.numbers,
        trial.ssim,
        line_up(trial.matches[comparison], gallery),
    )


def from_linkage(originals: Originals, protected: Images, attack_result: AttackResult) -> AttackedImages:
    """The images that an attack links to originals, without reconstructions."""
    assert attack_result.similarities is not None
    gallery = originals.gallery
    similarity = attack_result.similarities(gallery.images)
    return AttackedImages(
        protected,
        originals=originals.images,
        distractors=gallery.distractors,
        gallery=gallery.numbers,
        line_up=_linkage_line_up(similarity.astype(np.float32), gallery),
    )


def _linkage_line_up(similarity: npt.NDArray[np.float32], gallery: Gallery) -> LineUp:
    """similarity: [N, G]. An original outside the gallery and without a near-duplicate in it has the last rank."""
    same = gallery.clusters[None, :] == gallery.own_clusters[:, None]
    own = np.where(same, similarity, -np.inf).max(axis=1)
    columns, values = most_similar(similarity)
    return LineUp(
        "linkage",
        gallery.numbers[columns],
        values,
        np.take_along_axis(same, columns, axis=1),
        own,
        1 + (np.where(same, -np.inf, similarity) >= own[:, None]).sum(axis=1),
    )
