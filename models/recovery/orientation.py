"""The rotation and the colours of images that key recovery left rotated, inverted and with channels exchanged.

A small network, trained on public photographs (`unveil.models.tools.fit_orientation`), tells by how many quarter turns
an image was rotated; `color_ambiguity` tells its colours. Each needs the other, so both are chosen together from all
images. The network runs on NumPy alone and was not trained on scored images. A mirrored image is as natural as the
image itself, so the mirror stays undetermined.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images
from unveil.models.recovery.color_ambiguity import (
    ColorTransform,
    Floats,
    load_weights,
    log_probabilities,
    tolerate_outliers,
)
from unveil.models.schemes.pixelwise import ORDERS

BUNDLED_WEIGHTS = Path(__file__).parents[1] / "weights" / "orientation.npz"
SIDE = 32  # pixels: images are averaged down to SIDE x SIDE
MAX_IMAGES = 24
_SHORTLIST = 3  # colour transforms that are tried with every rotation


@dataclass(frozen=True)
class Orientation:
    """The chosen quarter turn (counter-clockwise) and colours of images, with their joint posterior probability."""

    quarter_turns: int
    color: ColorTransform
    probability: float


def choose_orientation(images: Images, evidence: npt.NDArray[np.float64] | None = None) -> Orientation:
    """The most probable rotation and colour transform that make images uint8 [N, H, W, 3], all changed alike, natural.

    Images that are not square may be upside down, but not on their side. evidence: further log-likelihoods [4, 12] of
    quarter turns and colour transforms, added to those of the images. Raises ValueError without images.
    """
    if not len(images):
        raise ValueError("at least one image is needed to choose the orientation; got none")
    sampled = images[np.linspace(0, len(images) - 1, min(MAX_IMAGES, len(images))).astype(int)]
    rotations = range(4) if images.shape[1] == images.shape[2] else (0, 2)
    color = {rotation: log_probabilities(np.rot90(sampled, rotation, axes=(1, 2))) for rotation in rotations}  # [N, 12]
    known = np.zeros((4, 12)) if evidence is None else evidence
    by_color = [tolerate_outliers(row, 12).sum(0) + known[rotation] for rotation, row in color.items()]
    shortlist = np.argsort(-np.max(by_color, axis=0))[:_SHORTLIST]
    fits: dict[tuple[int, int], float] = {}
    for element in shortlist.tolist():
        upright = rotation_log_probabilities(_transform_colors(sampled, element))
        for rotation in rotations:
            # An image rotated by t quarter turns is upright after 4 - t more.
            both = color[rotation][:, element] + upright[:, (4 - rotation) % 4]
            fits[rotation, element] = float(
                tolerate_outliers(both, 12 * len(rotations)).sum() + known[rotation, element]
            )
    best = max(fits, key=fits.__getitem__)
    probability = float(1 / np.exp(np.array(list(fits.values())) - fits[best]).sum())
    return Orientation(best[0], ColorTransform(best[1], probability, len(sampled)), probability)


def rotation_log_probabilities(images: Images) -> npt.NDArray[np.float64]:
    """Images [N, H, W, 3] -> log-probabilities [N, 4] that an image was rotated by so many quarter turns.

    The mean over the four rotations and the mirror images of each image.
    """
    small = _average_down(images)
    total = np.zeros((len(images), 4))
    for mirrored in (False, True):
        for rotation in range(4):
            view = np.rot90(small[:, :, ::-1] if mirrored else small, rotation, axes=(1, 2))
            logits = _forward(view)
            # The view was rotated by `rotation` more; mirroring reverses the sense of a rotation.
            logits = np.roll(logits, -rotation, axis=1)
            total += logits[:, [0, 3, 2, 1]] if mirrored else logits
    total /= 8
    total -= total.max(1, keepdims=True)
    return total - np.log(np.exp(total).sum(1, keepdims=True))


def _transform_colors(images: Images, element: int) -> Images:
    reordered = images[..., ORDERS[element % 6].astype(np.intp)]
    return 255 - reordered if element >= 6 else reordered


def _average_down(images: Images) -> Floats:
    """uint8 [N, H, W, 3] -> [N, SIDE, SIDE, 3] in -1..1, each value the mean of its area."""
    values = images.astype(np.float32) / 127.5 - 1
    for axis in (1, 2):
        edges = np.linspace(0, values.shape[axis], SIDE + 1)
        sums = np.concatenate([np.zeros_like(values.take([0], axis)), values.cumsum(axis, dtype=np.float64)], axis)
        low = np.minimum(edges.astype(np.intp), values.shape[axis] - 1)
        weight = (edges - low).reshape([-1 if a == axis else 1 for a in range(4)])
        at_edges = sums.take(low, axis) * (1 - weight) + sums.take(low + 1, axis) * weight
        values = (np.diff(at_edges, axis=axis) * (SIDE / values.shape[axis])).astype(np.float32)
    return values


def _forward(images: Floats) -> npt.NDArray[np.float64]:
    """[N, SIDE, SIDE, 3] -> logits [N, 4] by 3x3 convolutions with ReLU, 2x2 max-pools and two linear layers."""
    weights = load_weights(BUNDLED_WEIGHTS)
    x = images
    for layer, pooled in enumerate((False, True, True, True)):
        kernel = weights[f"conv{layer}.weight"]  # [3, 3, C, D]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))  # [N, H, W, C, 3, 3]
        x = np.maximum(np.tensordot(windows, kernel, axes=((4, 5, 3), (0, 1, 2))) + weights[f"conv{layer}.bias"], 0)
        if pooled:
            count, height, width, channels = x.shape
            x = x.reshape(count, height // 2, 2, width // 2, 2, channels).max((2, 4))
    hidden = np.maximum(x.reshape(len(x), -1) @ weights["hidden.weight"] + weights["hidden.bias"], 0)
    return (hidden @ weights["rotation.weight"] + weights["rotation.bias"]).astype(np.float64)
