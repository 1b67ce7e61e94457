"""The last choice that key recovery leaves: the order of the channels and whether all is negative, 12 in all.

Colours tell, and where in the picture they are: skies are above, whites saturate more often than blacks, blue is rarely
dark. A picture becomes a histogram of its colours by zone and roughness; a small network, trained on public photographs
to prefer each to its eleven transformed copies (`models.recovery.fit_symmetry`), says how natural it is. Log-odds of
several ciphertexts add up. It never sees what is scored, and runs on NumPy alone. On unseen photographs it is right in
78 % of cases from one picture, 94 % from two, 99.7 % from five; on STL-10 71 %, 87 % and 98.8 % [M].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images, check_images
from unveil.models.schemes.pixelwise import ORDERS

Floats = npt.NDArray[np.float32]

BUNDLED_WEIGHTS = Path(__file__).parents[1] / "weights" / "symmetry.npz"
EDGES = np.array([7.5, 39.5, 79.5, 127.5, 175.5, 215.5, 247.5])  # of a channel: the negative's are the same
LEVELS = len(EDGES) + 1
_LEVEL_OF = np.digitize(np.arange(256), EDGES)
ZONES = 3  # of the height
GRADIENT_THRESHOLD = 4.1  # sum of the grey steps to the pixels left and above (thirds of a level): smooth or not
FEATURES = ZONES * 2 * LEVELS**3
OUTLIER_PROBABILITY = 0.02  # no single picture may rule a choice out: some are odd
MAX_IMAGES = 64  # pictures looked at
_REFERENCE_SIDE = 96  # larger pictures are averaged down to about this, the size of the photographs it learned from


@dataclass(frozen=True)
class ColorTransform:
    """element: 6 * negative + order. The picture's channel c is channel ORDERS[order][c] of the one shown, then
    negated or not. probability: of this choice among the twelve; pictures: how many were looked at.
    """

    element: int
    probability: float
    image_count: int

    @property
    def order(self) -> int:
        return self.element % 6

    @property
    def negative(self) -> bool:
        return self.element >= 6


def choose_color_transform(images: Images, evidence: npt.NDArray[np.float64] | None = None) -> ColorTransform:
    """Which of the 12 turns images [N, H, W, 3], all transformed alike, into natural ones.

    evidence: log-likelihoods [12] from elsewhere, added to what the pictures say.
    """
    check_images(images)
    if not len(images):
        raise ValueError("at least one image is needed to settle colours; got none")
    sampled = images[np.linspace(0, len(images) - 1, min(MAX_IMAGES, len(images))).astype(int)]
    image_log_probabilities = log_probabilities(sampled)
    total = np.logaddexp(
        image_log_probabilities + np.log1p(-OUTLIER_PROBABILITY), np.log(OUTLIER_PROBABILITY / 12)
    ).sum(0)
    if evidence is not None:
        total = total + evidence
    probabilities = np.exp(total - total.max())
    probabilities /= probabilities.sum()
    element = int(probabilities.argmax())
    return ColorTransform(element, float(probabilities[element]), len(sampled))


def log_probabilities(images: Images) -> npt.NDArray[np.float64]:
    """[N, H, W, 3] -> [N, 12]: of each element, that it makes the picture natural."""
    weights = _load_bundled_weights()
    result = np.empty((len(images), 12))
    for i, image in enumerate(images):
        features = histogram_variants(color_histogram(image)[None])[0]
        hidden = np.maximum(features @ weights["hidden.weight"].T + weights["hidden.bias"], 0)
        result[i] = (hidden @ weights["score.weight"].T + weights["score.bias"])[:, 0]
    result -= result.max(1, keepdims=True)
    return result - np.log(np.exp(result).sum(1, keepdims=True))


def color_histogram(image: Images) -> Floats:
    """[H, W, 3] of any size -> [ZONES * 2, LEVELS, LEVELS, LEVELS]: roots of shares, times ten."""
    values = _average_down(image.astype(np.float32))
    height, width = values.shape[:2]
    grey = values.mean(-1)
    gradient = np.zeros_like(grey)
    gradient[:, 1:] += abs(np.diff(grey, axis=1))
    gradient[1:] += abs(np.diff(grey, axis=0))
    level = _LEVEL_OF[np.rint(values).astype(np.intp)]
    zone = 2 * (np.arange(height) * ZONES // height)[:, None] + (gradient >= GRADIENT_THRESHOLD)
    index = ((zone * LEVELS + level[..., 0]) * LEVELS + level[..., 1]) * LEVELS + level[..., 2]
    shares = np.bincount(index.ravel(), minlength=FEATURES) / (height * width)
    return (10 * np.sqrt(shares)).astype(np.float32).reshape(ZONES * 2, LEVELS, LEVELS, LEVELS)


def histogram_variants(histograms: Floats) -> Floats:
    """[N, ZONES * 2, L, L, L] -> [N, 12, FEATURES]: as if each element were applied to the picture."""
    transformed = [
        view.transpose(0, 1, *(2 + channel for channel in order)).reshape(len(view), -1)
        for view in (histograms, histograms[:, :, ::-1, ::-1, ::-1])
        for order in ORDERS.tolist()
    ]
    return np.stack(transformed, axis=1)


def _average_down(values: Floats) -> Floats:
    height, width = values.shape[:2]
    factor = max(1, round(min(height, width) / _REFERENCE_SIDE))
    if factor == 1:
        return values
    height, width = height // factor, width // factor
    split = values[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    means: Floats = split.mean((1, 3))
    return means


@cache
def _load_bundled_weights() -> dict[str, Floats]:
    with np.load(BUNDLED_WEIGHTS) as archive:
        return {name: archive[name].astype(np.float32) for name in archive.files}
