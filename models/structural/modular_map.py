"""Linear maps with an offset in integers: Hill's cipher modulo 256, and linear maps of the bits of a block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images
from unveil.models.structural.layouts import Layout, Rows, from_units, to_units
from unveil.models.structural.reader import Known

_CANDIDATE_ROWS_PER_VALUE = 4
_CHECKED_ROWS = 200


@dataclass(frozen=True)
class ModularMap:
    """plain = ciphertext @ matrix + offset, modulo 256 of values or modulo 2 of bits, for every row of the layout."""

    layout: Layout
    bits: Literal[1, 8]
    matrix: npt.NDArray[np.int64]
    offset: npt.NDArray[np.int64]

    conclusive: ClassVar[bool] = False

    @property
    def description(self) -> str:
        what = "its values modulo 256 (Hill's cipher)" if self.bits == 8 else "its bits"
        return f"every {self.layout.title} is mapped by one linear map of {what}"

    def read(self, ciphertexts: Images) -> tuple[Images, Known]:
        units = to_units(self.layout.split(ciphertexts), self.bits)
        plain = _apply(units, self.matrix, self.offset, 2**self.bits)
        images = self.layout.join(from_units(plain, self.bits), ciphertexts.shape).astype(np.uint8, copy=False)
        return images, np.ones(images.shape, np.bool_)


def find_modular_map(layout: Layout, bits: Literal[1, 8], plain: Images, protected: Images) -> ModularMap | None:
    """The map that explains pairs uint8 [N, H, W, 3], or None if no map does."""
    inputs, outputs = layout.split(protected), layout.split(plain)
    size = inputs.shape[1] * (8 // bits)
    wanted = 1 + _CANDIDATE_ROWS_PER_VALUE * size + _CHECKED_ROWS
    if len(inputs) < wanted:
        return None
    chosen = np.random.default_rng(0).permutation(len(inputs))[:wanted]
    x, y = to_units(inputs[chosen], bits).astype(np.int64), to_units(outputs[chosen], bits).astype(np.int64)
    fit, checked = slice(1, wanted - _CHECKED_ROWS), slice(wanted - _CHECKED_ROWS, None)
    solve = _solve_values if bits == 8 else _solve_bits
    matrix = solve((x - x[0])[fit] % 2**bits, (y - y[0])[fit] % 2**bits)
    if matrix is None:
        return None
    offset = (y[0] - x[0] @ matrix) % 2**bits
    if ((x[checked] @ matrix + offset - y[checked]) % 2**bits).any():
        return None
    return ModularMap(layout, bits, matrix, offset)


def _apply(units: Rows, matrix: npt.NDArray[np.int64], offset: npt.NDArray[np.int64], modulus: int) -> Rows:
    # Exact in float32: sums of 48 products of bytes, or of 384 products of bits, stay below 2**24.
    product = (units.astype(np.float32) @ matrix.astype(np.float32)).astype(np.int64)
    return ((product + offset) % modulus).astype(np.uint8)


def _solve_values(x: npt.NDArray[np.int64], y: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | None:
    """matrix with x @ matrix = y modulo 256, by elimination with odd pivots, or None without a solution."""
    size = x.shape[1]
    work = np.concatenate([x, y], axis=1)
    for column in range(size):
        odd = np.flatnonzero(work[column:, column] & 1)
        if not len(odd):
            return None
        pivot = column + int(odd[0])
        work[[column, pivot]] = work[[pivot, column]]
        work[column] = work[column] * pow(int(work[column, column]), -1, 256) % 256
        factors = work[:, column].copy()
        factors[column] = 0
        work = (work - factors[:, None] * work[column]) % 256
    if work[size:].any():  # the other equations contradict the solution
        return None
    return work[:size, size:]


def _solve_bits(x: npt.NDArray[np.int64], y: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | None:
    """The same modulo 2, on packed rows."""
    size = x.shape[1]
    work = np.packbits(np.concatenate([x, y], axis=1).astype(np.uint8), axis=1)
    for column in range(size):
        byte, mask = column // 8, np.uint8(128 >> column % 8)
        ones = np.flatnonzero(work[column:, byte] & mask)
        if not len(ones):
            return None
        pivot = column + int(ones[0])
        work[[column, pivot]] = work[[pivot, column]]
        rows = np.flatnonzero(work[:, byte] & mask)
        work[rows[rows != column]] ^= work[column]
    if work[size:].any():
        return None
    return np.unpackbits(work[:size], axis=1, count=2 * size)[:, size:].astype(np.int64)
