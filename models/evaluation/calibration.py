"""Calibration images: originals that are distorted in known ways, to report which metric recognizes which distortion.

No training is involved. A metric recognizes a distortion when, for at least half of the images, the distorted image
scores higher with its own original than 99 % of unrelated pairs do; a comparison of `models.metrics.matching`
recognizes it when it identifies at least half of the images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unveil.models.core.blocks import from_blocks, to_blocks
from unveil.models.core.images import Images
from unveil.models.metrics.gallery import Gallery
from unveil.models.metrics.matching import match

PairMetric = Callable[[Images, Images], npt.NDArray[np.float64]]  # originals, others -> a score each, higher is closer

RECOGNIZED_SHARE = 0.5
_FALSE_POSITIVES = 0.01
_MIN_UNRELATED = 1000  # pairs
_SHIFT = 5  # pixels
_BLOCK = 8
_BLUR = 3.0  # standard deviation in pixels
_LEVELS = 4  # of each channel, posterized
_CONTRAST = 0.1


@dataclass(frozen=True)
class Recognition:
    """share: of the images that were recognized under the distortion."""

    distortion: str
    metric: str
    share: float

    @property
    def recognized(self) -> bool:
        return self.share >= RECOGNIZED_SHARE


def calibrate(
    originals: Images, gallery: Gallery, distorted: Mapping[str, Images], metrics: Mapping[str, PairMetric]
) -> list[str]:
    """A note on each distortion that some comparison or metric does not recognize."""
    found = calibrate_matching(originals, gallery, distorted)
    for name, metric in metrics.items():
        found += calibrate_metric(name, metric, originals, distorted)
    notes = []
    for distortion in distorted:
        own = [each for each in found if each.distortion == distortion]
        blind = [each.metric for each in own if not each.recognized]
        if blind:
            by = "any metric" if len(blind) == len(own) else ", ".join(blind)
            notes.append(f"calibration: images that are {distortion} are not recognized by {by}")
    return notes


def calibration_images(originals: Images, seed: int = 0) -> dict[str, Images]:
    """Distorted copies of uint8 [N, H, W, 3] by name, all of the same shape.

    A quarter turn needs square images; others are turned upside down instead.
    """
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    square = originals.shape[1] == originals.shape[2]
    levels = 256 // _LEVELS
    found = {
        "negative": 255 - originals,
        "mirrored": originals[:, :, ::-1],
        "turned": np.rot90(originals, 1 if square else 2, (1, 2)),
        "shifted": np.roll(originals, (_SHIFT, _SHIFT), (1, 2)),
        "blocks shuffled": shuffle_blocks(originals, _BLOCK, rng),
        "blurred": gaussian_filter(originals, (0, _BLUR, _BLUR, 0)),
        "posterized": originals // levels * (255 // (_LEVELS - 1)),
        "reduced to 10 % contrast": np.rint(127.5 + _CONTRAST * (originals.astype(np.float32) - 127.5)),
    }
    return {name: np.ascontiguousarray(images).astype(np.uint8) for name, images in found.items()}


def shuffle_blocks(images: Images, size: int, rng: np.random.Generator) -> Images:
    """Each image with its whole blocks in an order of its own; rows and columns beyond the last block stay."""
    count, height, width, _ = images.shape
    rows, columns = height // size, width // size
    out = images.copy()
    if rows * columns < 2:
        return out
    whole = images[:, : rows * size, : columns * size]
    order = rng.permuted(np.tile(np.arange(rows * columns), (count, 1)), axis=1)
    blocks = np.take_along_axis(to_blocks(whole, size), order[..., None, None, None], axis=1)
    out[:, : rows * size, : columns * size] = from_blocks(blocks, whole.shape)
    return out


def degrade(images: Images, mean_squared_error: float, rng: np.random.Generator) -> Images:
    """Images mixed with white noise until their mean squared error is the one given, or all noise."""
    plain = images.astype(np.float32)
    noise = rng.integers(0, 256, images.shape).astype(np.float32)
    full = float(((noise - plain) ** 2).mean())
    weight = (
        min(1.0, (mean_squared_error / full) ** 0.5) if full > 0 else 0.0
    )  # the error grows with the weight squared
    return np.rint(plain + weight * (noise - plain)).astype(np.uint8)


def calibrate_matching(originals: Images, gallery: Gallery, distorted: Mapping[str, Images]) -> list[Recognition]:
    """Share identified by each comparison under each distortion."""
    return [
        Recognition(name, scores.name, scores.hits / len(originals))
        for name, images in distorted.items()
        for scores in match(images, originals, gallery).scores
    ]


def calibrate_metric(
    name: str, metric: PairMetric, originals: Images, distorted: Mapping[str, Images]
) -> list[Recognition]:
    """Share of images whose score with their own original stands out from scores with other originals."""
    count = len(originals)
    offsets = range(1, min(count, 1 + max(1, -(-_MIN_UNRELATED // count))))
    found = []
    for distortion, images in distorted.items():
        unrelated = [metric(np.roll(originals, offset, axis=0), images) for offset in offsets]
        share = 0.0
        if unrelated:
            threshold = np.quantile(np.concatenate(unrelated), 1 - _FALSE_POSITIVES)
            share = float((metric(originals, images) > threshold).mean())
        found.append(Recognition(distortion, name, share))
    return found
