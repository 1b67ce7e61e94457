"""Estimated cost of a training on a CPU, in core seconds, before it runs.

The seconds an image are measured: docs/results.md, "The paper's settings", one core, images of 96x96. A training with
other widths and sizes scales with the pixels, and with the width to the power 1.5, which fits narrow networks. An
estimate is good to a factor of three.
"""

from __future__ import annotations

_REFERENCE_PIXELS = 96 * 96
_STEP_SECONDS_PER_IMAGE = 0.001  # the part that no width reduces


def training_core_seconds(
    images: int, epochs: int, pixels: int, seconds_per_image: float, relative_width: float = 1.0
) -> float:
    """Core seconds of `epochs` passes over `images` images of `pixels` pixels.

    seconds_per_image: of the network at its reference width on 96x96; relative_width: the width over that reference.
    """
    network_seconds = seconds_per_image * relative_width**1.5 * pixels / _REFERENCE_PIXELS
    return images * epochs * (_STEP_SECONDS_PER_IMAGE + network_seconds)
