"""A table that replaces the values at some places of all blocks, from ciphertexts alone [M].

The clear values fill the lowest quarter of the range, so the masked places are those with larger values. The clear
values predict the masked ones, which gives most of the image without any key. The symbol that replaces a plain value
occurs wherever the prediction is near the value (`unveil.models.recovery.symbol_table`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unveil.models.core.blocks import to_blocks
from unveil.models.core.images import Images, quantise
from unveil.models.core.run_context import OnStep
from unveil.models.recovery.symbol_table import match_symbols
from unveil.models.schemes.value_substitution import UNKNOWN, ValueSubstitution

Floats = npt.NDArray[np.float32]

_VALUES = np.arange(256.0)
_LARGEST = range(950, 1000)  # entries that may be the largest of a table of 256 different numbers below 1000
_MAX_CLEAR = 90  # grey levels in the 8-bit view; masked places exceed it in every image that has a few grey levels
_MAX_BLOCKS = 40_000  # blocks used; bounds time and memory
_CLASSES = 4  # of predictions, by the contrast around them: smooth places are predicted better


def recover_substitution(ciphertexts: Images, side: int, on_step: OnStep = lambda: None) -> ValueSubstitution:
    """Ciphertexts uint8 [N, H, W, 3], sides multiples of `side` -> the substitution, as far as they show it.

    Raises ValueError if no position of a block has only clear values.
    """
    blocks = to_blocks(ciphertexts, side)
    used = ciphertexts[: max(1, _MAX_BLOCKS // max(1, blocks.shape[1]))]
    masked = blocks.max((0, 1), initial=0) > _MAX_CLEAR
    if masked.all():
        raise ValueError("no position of a block has only clear values; the ciphertexts come from another scheme")
    everywhere = np.tile(masked, (used.shape[1] // side, used.shape[2] // side, 1))
    on_step()
    white = 255 * 255 / _find_largest(np.bincount(used[:, ~everywhere].ravel(), minlength=256))
    nothing = ValueSubstitution(masked, np.full(256, UNKNOWN), white)
    if not masked.any():
        return nothing
    on_step()
    predicted = nothing.predict(used)
    contrast = _local_contrast(predicted)[..., None].repeat(3, axis=3)[:, everywhere]
    classes = np.digitize(contrast, np.quantile(contrast, np.linspace(0, 1, _CLASSES + 1)[1:-1]))
    index = (classes * 256 + used[:, everywhere]) * 256 + np.rint(predicted[:, everywhere]).astype(np.intp)
    counts = np.bincount(index.ravel(), minlength=_CLASSES * 256 * 256).reshape(_CLASSES, 256, 256)
    return ValueSubstitution(masked, match_symbols(counts.astype(np.float32), on_step), white)


def _find_largest(counts: npt.NDArray[np.intp]) -> int:
    """The largest entry of the table, from how often each clear level 0..255 occurs.

    Clear values are divided by it, so that three or four plain values become one level. Which levels hold three and
    which four depends on the entry; for the right one, the occurrences of a plain value change little from level to
    level.
    """

    def roughness(largest: int) -> float:
        held = np.bincount(quantise(_VALUES * (255 / largest)), minlength=256)
        levels = np.flatnonzero(held)[2:-2]  # black and white occur more often than others
        return float((np.diff(np.log1p(counts[levels] / held[levels]), 2) ** 2).sum())

    return min(_LARGEST, key=roughness)


def _local_contrast(images: Floats) -> Floats:
    """The largest step of the mean of the channels from a pixel to its neighbours, [N, H, W]."""
    grey = np.pad(images.mean(-1), ((0, 0), (1, 1), (1, 1)), mode="edge")
    down, right = np.abs(np.diff(grey, axis=1))[:, :, 1:-1], np.abs(np.diff(grey, axis=2))[:, 1:-1]
    steps: Floats = np.maximum(np.maximum(down[:, 1:], down[:, :-1]), np.maximum(right[:, :, 1:], right[:, :, :-1]))
    return steps
