"""Linear maps with an offset, rounded to 8 bits: one for all blocks, or one for every value or pixel of the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images, quantise
from unveil.models.structural.layouts import Layout
from unveil.models.structural.reader import Known

Floats = npt.NDArray[np.float64]

_RIDGE = 1.0  # grey levels squared an observation: rounding and clipping are noise of about this size
_MAX_ROWS = 30_000
_ROWS_PER_VALUE = 1.5  # observations that a block map needs for each of its values


@dataclass(frozen=True)
class BlockLinearMap:
    """plain = ciphertext @ matrix + offset for every row of the layout."""

    layout: Layout
    matrix: Floats
    offset: Floats

    conclusive: ClassVar[bool] = False

    @property
    def description(self) -> str:
        return f"every {self.layout.title} is multiplied by one fixed matrix"

    def read(self, ciphertexts: Images) -> tuple[Images, Known]:
        rows = self.layout.split(ciphertexts).astype(np.float32)
        plain = quantise(rows @ self.matrix.astype(np.float32) + self.offset.astype(np.float32))
        images = self.layout.join(plain, ciphertexts.shape).astype(np.uint8, copy=False)
        return images, np.ones(images.shape, np.bool_)


@dataclass(frozen=True)
class PositionLinearMap:
    """The `group` values of a pixel, or each value alone, are mapped by a matrix and an offset of their own.

    matrices: [positions, group, group]; offsets: [positions, group].
    """

    matrices: Floats
    offsets: Floats

    conclusive: ClassVar[bool] = False

    @property
    def description(self) -> str:
        if self.matrices.shape[1] == 1:
            return "each value is scaled and shifted by constants of its position, as when a secret image is blended in"
        return "the colours of each pixel are multiplied by a separate matrix for each position"

    def read(self, ciphertexts: Images) -> tuple[Images, Known]:
        values = _grouped(ciphertexts, self.matrices.shape[1])
        plain = np.einsum("npg,pgh->nph", values, self.matrices, optimize=True) + self.offsets
        images = quantise(plain).reshape(ciphertexts.shape)
        return images, np.ones(images.shape, np.bool_)


def find_block_linear_map(layout: Layout, plain: Images, protected: Images) -> BlockLinearMap | None:
    """The ridge regression of plain on encrypted rows; None: too few rows."""
    inputs, outputs = layout.split(protected), layout.split(plain)
    count, size = inputs.shape
    if count < _ROWS_PER_VALUE * size:
        return None
    if count > _MAX_ROWS:
        chosen = np.random.default_rng(0).permutation(count)[:_MAX_ROWS]
        inputs, outputs = inputs[chosen], outputs[chosen]
    x, y = inputs.astype(np.float32), outputs.astype(np.float32)
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    x, y = x - x_mean, y - y_mean
    gram = (x.T @ x).astype(np.float64) + _RIDGE * len(x) * 0.01 * np.eye(size)
    matrix = np.linalg.solve(gram, (x.T @ y).astype(np.float64))
    return BlockLinearMap(layout, matrix, y_mean - x_mean @ matrix)


def find_position_linear_map(group: int, plain: Images, protected: Images) -> PositionLinearMap | None:
    """group: 1, each value alone, or 3, the values of a pixel together. None: too few pairs."""
    if len(plain) < 2 * group + 2:
        return None
    x, y = _grouped(protected, group), _grouped(plain, group)
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    x, y = x - x_mean, y - y_mean
    gram = np.einsum("npg,nph->pgh", x, x, optimize=True) + _RIDGE * np.eye(group)
    matrices = np.linalg.solve(gram, np.einsum("npg,nph->pgh", x, y, optimize=True))
    return PositionLinearMap(matrices, y_mean - np.einsum("pg,pgh->ph", x_mean, matrices))


def _grouped(images: Images, group: int) -> Floats:
    return images.reshape(len(images), -1, group).astype(np.float64)
