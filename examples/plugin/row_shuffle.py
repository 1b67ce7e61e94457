"""A scheme, an attack and a metric outside Unveil: `unveil plugins check examples/plugin/row_shuffle.py`."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unveil.plugins import (
    Attack,
    AttackInput,
    AttackResult,
    Images,
    Metric,
    PositionPermutation,
    RunContext,
    Scheme,
    ThreatModel,
    setting,
)


@dataclass(frozen=True)
class RowShuffleSettings:
    invert: bool = setting(True, "Also invert half of the rows")


@dataclass(frozen=True)
class RowKey:
    """Output row i is input row order[i], inverted if inverted[i]."""

    order: npt.NDArray[np.int64]
    inverted: npt.NDArray[np.bool_]


class RowShuffle(Scheme[RowShuffleSettings, RowKey]):
    """The rows of an image are permuted and inverted or not; one key serves all images of a height."""

    name = "example/row-shuffle"
    title = "Row shuffle"
    source = "Unveil, examples/plugin"
    Settings = RowShuffleSettings
    structure = PositionPermutation("pixel")  # chosen plaintext breaks it without further code

    def key_space_bits(self, height: int, width: int) -> float:  # noqa: ARG002
        return math.lgamma(height + 1) / math.log(2) + height * self.settings.invert

    def derive(self, seed: bytes, height: int, width: int) -> RowKey:  # noqa: ARG002
        random = np.random.Generator(np.random.PCG64(int.from_bytes(seed, "big")))
        inverted = random.integers(0, 2, height) == 1
        return RowKey(random.permutation(height), inverted & self.settings.invert)

    def encrypt(self, images: Images, key: RowKey) -> Images:
        return images[:, key.order] ^ (key.inverted * np.uint8(255))[:, None, None]

    def decrypt(self, images: Images, key: RowKey) -> Images:
        return (images ^ (key.inverted * np.uint8(255))[:, None, None])[:, np.argsort(key.order)]


class SortRows(Attack[Any]):
    """Chains the rows: next comes the row most similar to the last one over all ciphertexts, inverted or not."""

    name = "example/sort-rows"
    title = "Sort rows"
    source = "Unveil, examples/plugin"
    threat_model = ThreatModel.CIPHERTEXT_ONLY

    def not_applicable_reason(self, scheme: Scheme[Any, Any]) -> str | None:
        if scheme.structure != PositionPermutation("pixel") or scheme.key_per_image:
            return "needs one permutation of pixels for all images"
        return None

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:
        rows = attack_input.targets.transpose(1, 0, 2, 3).astype(np.float32) - 127.5
        height = len(rows)
        rows = rows.reshape(height, -1)
        products = rows @ rows.T
        order, signs = [0], [1.0]
        while len(order) < height:
            context.report(len(order) / height, "sorting rows")
            scores = products[order[-1]] * signs[-1]
            scores[order] = 0
            order.append(int(np.abs(scores).argmax()))
            signs.append(1.0 if scores[order[-1]] >= 0 else -1.0)
        inverted = (np.array(signs) < 0)[:, None, None] * np.uint8(255)
        return AttackResult(reconstructed=attack_input.targets[:, order] ^ inverted)


class MeanError(Metric):
    """The mean absolute error of all values, in grey levels."""

    name = "example/mean-error"
    title = "Mean absolute error"
    source = "textbook"
    higher_is_better = False

    def compute(self, originals: Images, reconstructed: Images) -> npt.NDArray[np.float64]:
        error: npt.NDArray[np.float64] = np.abs(originals.astype(np.float64) - reconstructed)
        return np.array([image.mean() for image in error])
