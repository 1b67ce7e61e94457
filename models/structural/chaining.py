"""Chains: each value of the ciphertext also depends on the one before it, as in the diffusion of chaotic ciphers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unveil.models.core.images import Images

Order = Literal["rows", "planes", "columns"]
Operation = Literal["xor", "add"]

# Axes of [N, H, W, C] in the order in which values are chained, the last one fastest.
_AXES: Mapping[Order, tuple[int, int, int]] = {"rows": (1, 2, 3), "planes": (3, 1, 2), "columns": (2, 1, 3)}
_TEXT: Mapping[Order, str] = {
    "rows": "in the order of rows",
    "planes": "plane after plane",
    "columns": "in the order of columns",
}


@dataclass(frozen=True)
class Chain:
    """A value of the ciphertext is combined with the one before it."""

    order: Order
    operation: Operation

    @property
    def description(self) -> str:
        verb = "XORed with" if self.operation == "xor" else "added to"
        return f"each value is {verb} the ciphertext value before it, {_TEXT[self.order]}"

    def undo(self, ciphertexts: Images) -> Images:
        axes = (0, *_AXES[self.order])
        moved = ciphertexts.transpose(axes)
        flat = moved.reshape(len(ciphertexts), -1)
        before = np.zeros_like(flat)
        before[:, 1:] = flat[:, :-1]
        out = flat ^ before if self.operation == "xor" else flat - before
        return np.ascontiguousarray(out.reshape(moved.shape).transpose(tuple(np.argsort(axes))))


CHAINS = tuple(Chain(order, operation) for order in _AXES for operation in ("xor", "add"))
