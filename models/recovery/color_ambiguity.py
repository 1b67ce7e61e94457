"""The colour ambiguity that key recovery leaves: the order of the channels and the inversion, 12 transforms in all.

Colours and their positions resolve it: the sky is above, whites saturate more often than blacks, blue is rarely dark.
An image becomes a histogram of colours by zone and roughness. A small network, trained on public photographs to prefer
each to its eleven transformed copies (`unveil.models.tools.fit_color_ambiguity`), scores how natural the image is, and
the log-odds of several ciphertexts add up. The network runs on NumPy alone and was not trained on scored images. On
unseen photographs it is right in 78 % of cases from one image, 94 % from two and 99.7 % from five; on STL-10 in 71 %,
87 % and 98.8 % [M].
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
EDGES = np.array([7.5, 39.5, 79.5, 127.5, 175.5, 215.5, 247.5])  # of a channel; symmetric under inversion
LEVELS = len(EDGES) + 1
_LEVEL_OF = np.digitize(np.arange(256), EDGES)
ZONES = 3  # of the image height
GRADIENT_THRESHOLD = 4.1  # grey levels, summed over the steps to the left and upper pixel: above it a pixel is rough
FEATURES = ZONES * 2 * LEVELS**3
_OUTLIER_PROBABILITY = 0.02  # the probability of an unusual image, so that no single image rules a transform out
MAX_IMAGES = 64  # images used
_REFERENCE_SIDE = 96  # pixels; larger images are averaged down to the size of the training images


@dataclass(frozen=True)
class ColorTransform:
    """One of the 12 colour transforms, its posterior probability and the number of images that decided.

    element = 6 * negative + order: channel c of the result is channel ORDERS[order][c] of the image, inverted if
    `negative`.
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
    """The most probable transform that makes images uint8 [N, H, W, 3], all transformed alike, natural.

    evidence: further log-likelihoods [12], added to those of the images. Raises ValueError without images.
    """
    check_images(images)
    if not len(images):
        raise ValueError("at least one image is needed to choose the colour transform; got none")
    sampled = images[np.linspace(0, len(images) - 1, min(MAX_IMAGES, len(images))).astype(int)]
    total = tolerate_outliers(log_probabilities(sampled), 12).sum(0)
    if evidence is not None:
        total = total + evidence
    probabilities = np.exp(total - total.max())
    probabilities /= probabilities.sum()
    element = int(probabilities.argmax())
    return ColorTransform(element, float(probabilities[element]), len(sampled))


def log_probabilities(images: Images) -> npt.NDArray[np.float64]:
    """Images [N, H, W, 3] -> log-probabilities [N, 12] that each transform makes the image natural."""
    weights = load_weights(BUNDLED_WEIGHTS)
    result = np.empty((len(images), 12))
    for i, image in enumerate(images):
        features = histogram_variants(color_histogram(image)[None])[0]
        hidden = np.maximum(features @ weights["hidden.weight"].T + weights["hidden.bias"], 0)
        result[i] = (hidden @ weights["score.weight"].T + weights["score.bias"])[:, 0]
    result -= result.max(1, keepdims=True)
    return result - np.log(np.exp(result).sum(1, keepdims=True))


def color_histogram(image: Images) -> Floats:
    """An image [H, W, 3] -> [ZONES * 2, LEVELS, LEVELS, LEVELS]: ten times the square roots of the shares."""
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
    """[N, ZONES * 2, L, L, L] -> [N, 12, FEATURES]: the histograms of the image under each transform."""
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


def tolerate_outliers(log_probabilities: npt.NDArray[np.float64], choices: int) -> npt.NDArray[np.float64]:
    """Log-likelihoods of `choices` choices, if an image may be unusual and then tells nothing."""
    return np.logaddexp(log_probabilities + np.log1p(-_OUTLIER_PROBABILITY), np.log(_OUTLIER_PROBABILITY / choices))


@cache
def load_weights(path: Path) -> dict[str, Floats]:
    """The bundled weights of a small network."""
    with np.load(path) as archive:
        return {name: archive[name].astype(np.float32) for name in archive.files}
