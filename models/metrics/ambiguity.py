"""Scores up to a declared ambiguity: an attack that cannot tell left from right has still recovered the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images
from unveil.models.core.verdict_rules.evidence import Ambiguity

# a quarter-turn count, and whether the image is mirrored left to right first
Orientation = tuple[int, bool]

_ORIENTATIONS: dict[Ambiguity, tuple[Orientation, ...]] = {
    "mirror": ((0, False), (0, True)),
    "rotation": tuple((turns, mirrored) for mirrored in (False, True) for turns in range(4)),
}


@dataclass(frozen=True)
class Oriented:
    """Reconstructions in the best orientation, and the orientation of each image."""

    images: Images
    orientations: tuple[Orientation, ...]


def orient(images: Images, orientation: Orientation) -> Images:
    """uint8 [N, H, W, 3], mirrored left to right if asked, then turned by quarter turns counter-clockwise."""
    turns, mirrored = orientation
    return np.ascontiguousarray(np.rot90(images[:, :, ::-1] if mirrored else images, turns, (1, 2)))


def best_orientation(
    reconstructed: Images,
    originals: Images,
    ambiguity: Ambiguity | None,
    score: Callable[[Images, Images], npt.NDArray[np.float64]],
    *,
    per_image: bool = False,
) -> Oriented:
    """Turn reconstructions to the orientation with the highest score(originals, reconstructed), of those left open.

    One orientation for all images: an attack on one key makes one choice. per_image: for attacks that choose for each
    image; the best of eight scores is a little above chance, so score the control in the same way. Ambiguity `rotation`
    covers the eight rotations and mirrors; quarter turns are left out for images that are not square.
    """
    if ambiguity is None:
        return Oriented(reconstructed, ((0, False),) * len(reconstructed))
    square = originals.shape[1] == originals.shape[2]
    choices = [o for o in _ORIENTATIONS[ambiguity] if square or o[0] % 2 == 0]
    oriented = [orient(reconstructed, o) for o in choices]
    scores = np.stack([score(originals, images) for images in oriented])
    best = scores.argmax(axis=0) if per_image else np.full(len(originals), scores.mean(axis=1).argmax())
    images = np.stack([oriented[choice][i] for i, choice in enumerate(best)]) if len(best) else reconstructed
    return Oriented(images, tuple(choices[choice] for choice in best))
