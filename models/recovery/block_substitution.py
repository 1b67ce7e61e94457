"""A table that replaces the values at some places of all blocks, from ciphertexts alone [M].

The clear values fill the lowest quarter of the range, so the masked places are those with larger values. The clear
values predict the masked ones, which gives most of the image without any key. Expectation maximisation then finds the
symbol that replaces each plain value: it occurs wherever the prediction is near the value.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images
from unveil.models.core.run_context import OnStep
from unveil.models.schemes.block_reading import to_blocks
from unveil.models.schemes.value_substitution import UNKNOWN, ValueSubstitution

Floats = npt.NDArray[np.float32]

_LARGEST = 992  # entry of a table of 256 different numbers below 1000, give or take _LARGEST_RANGE
_LARGEST_RANGE = 6
_MAX_CLEAR = 90  # grey levels in the 8-bit view; masked places exceed it in every image that has a few grey levels
_MAX_BLOCKS = 40_000  # blocks used; bounds time and memory
_ERROR = 2.0  # grey levels: scale of the errors of predictions
_ITERATIONS, _TRIAL_ITERATIONS = 40, 15
_MIN_COUNT = 8.0  # occurrences of a plain value that its symbol needs, fewer are left to the prediction
_MIN_SHARE = 0.3  # of the occurrences of a plain value that its symbol explains


def recover_substitution(ciphertexts: Images, side: int, on_step: OnStep = lambda: None) -> ValueSubstitution:
    """Ciphertexts uint8 [N, H, W, 3], sides multiples of `side` -> the substitution, as far as they show it.

    Raises ValueError if no position of a block has only clear values.
    """
    blocks = to_blocks(ciphertexts, side)
    used = ciphertexts[: max(1, _MAX_BLOCKS // max(1, blocks.shape[1]))]
    masked = blocks.max((0, 1), initial=0) > _MAX_CLEAR
    if masked.all():
        raise ValueError("no position of a block has only clear values; the ciphertexts come from another scheme")
    nothing = np.full(256, UNKNOWN)
    on_step()
    if not masked.any():
        return ValueSubstitution(masked, nothing, _white(_LARGEST))
    everywhere = np.tile(masked, (used.shape[1] // side, used.shape[2] // side, 1))
    symbols = used[:, everywhere].astype(np.intp) * 256
    predicted = ValueSubstitution(masked, nothing, _white(_LARGEST)).predict(used)[:, everywhere]

    def match(largest: int, iterations: int) -> tuple[float, npt.NDArray[np.intp]]:
        on_step()
        rescaled = np.minimum(np.rint(predicted * np.float32(largest / _LARGEST)), 255).astype(np.intp)
        counts = np.bincount((symbols + rescaled).ravel(), minlength=256 * 256).reshape(256, 256)
        return _match_symbols(counts.astype(np.float32), iterations)

    # An error of one unit moves bright values by a quarter of a grey level, which blurs the table.
    around = range(_LARGEST - _LARGEST_RANGE, _LARGEST + _LARGEST_RANGE + 1, 2)
    largest = max(around, key=lambda entry: match(entry, _TRIAL_ITERATIONS)[0])
    largest = max((largest - 1, largest, largest + 1), key=lambda entry: match(entry, _TRIAL_ITERATIONS)[0])
    return ValueSubstitution(masked, match(largest, _ITERATIONS)[1], _white(largest))


def _white(largest: int) -> float:
    """Clear plain 255 in the 8-bit view if this is the largest entry of the table."""
    return 255 * 255 / largest


def _match_symbols(counts: Floats, iterations: int) -> tuple[float, npt.NDArray[np.intp]]:
    """Occurrences [symbol, predicted value] -> the log-likelihood, the symbol of each plain value or UNKNOWN [256]."""
    values = np.arange(256)
    kernel = (1 / (1 + (np.abs(values[:, None] - values) / _ERROR) ** 3)).astype(np.float32)  # [predicted, plain]
    kernel /= kernel.sum(0)
    joint = np.full((256, 256), 1 / 256**2, np.float32)  # shares of the occurrences, [plain, symbol]
    count = max(float(counts.sum()), 1.0)
    for _ in range(iterations):
        likelihood = np.maximum(kernel @ joint, 1e-12)  # [predicted, symbol]
        joint = joint * (kernel.T @ (counts.T / likelihood)) / count
    total = joint.sum(1)
    best: npt.NDArray[np.intp] = joint.argmax(1)
    is_certain = (joint.max(1) > _MIN_SHARE * total) & (total * count > _MIN_COUNT)
    return float((counts.T * np.log(likelihood)).sum()), np.where(is_certain, best, UNKNOWN)
