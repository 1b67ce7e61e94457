"""Layouts: how images are cut into rows of values on which one map may act, and the units of which values consist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images

Rows = npt.NDArray[np.uint8]  # [rows, values]
Bits = Literal[1, 2, 4, 8]  # in a unit: a bit, two bits (a base of "DNA" ciphers), a nibble, a value

UNIT_NAMES: dict[Bits, str] = {1: "bit", 2: "bit pair", 4: "nibble", 8: "value"}


class Layout(Protocol):
    @property
    def title(self) -> str:
        """Such as "8x8 block"."""

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether images of this shape can be cut so."""

    def split(self, images: Images) -> Rows:
        """uint8 [N, H, W, 3] -> [rows, values]."""

    def join(self, rows: npt.NDArray[np.generic], shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
        """The inverse of `split` for images of this shape."""


@dataclass(frozen=True)
class Tiles:
    """Tiles of `height` x `width` pixels."""

    height: int
    width: int

    @property
    def title(self) -> str:
        return "pixel" if (self.height, self.width) == (1, 1) else f"{self.width}x{self.height} block"

    def fits(self, shape: tuple[int, ...]) -> bool:
        return shape[1] % self.height == 0 and shape[2] % self.width == 0

    def split(self, images: Images) -> Rows:
        count, height, width, channels = images.shape
        cut = images.reshape(count, height // self.height, self.height, width // self.width, self.width, channels)
        return cut.transpose(0, 1, 3, 2, 4, 5).reshape(-1, self.height * self.width * channels)

    def join(self, rows: npt.NDArray[np.generic], shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
        count, height, width, channels = shape
        cut = rows.reshape(count, height // self.height, width // self.width, self.height, self.width, channels)
        return cut.transpose(0, 1, 3, 2, 4, 5).reshape(shape)


@dataclass(frozen=True)
class Runs:
    """Runs of `length` values in the order of memory: rows of pixels, channels last."""

    length: int

    @property
    def title(self) -> str:
        return f"run of {self.length} values"

    def fits(self, shape: tuple[int, ...]) -> bool:
        return int(np.prod(shape[1:])) % self.length == 0

    def split(self, images: Images) -> Rows:
        return images.reshape(-1, self.length)

    def join(self, rows: npt.NDArray[np.generic], shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
        return rows.reshape(shape)


def whole_image(shape: tuple[int, ...]) -> Tiles:
    return Tiles(shape[1], shape[2])


def to_units(rows: Rows, bits: Bits) -> Rows:
    """[rows, values] -> [rows, values * 8 / bits], the upper bits of a value first."""
    if bits == 8:
        return rows
    if bits == 1:
        return np.unpackbits(rows, axis=1)
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    return (rows[:, :, None] >> shifts & np.uint8(2**bits - 1)).reshape(len(rows), -1)


def from_units(units: Rows, bits: Bits) -> Rows:
    """The inverse of `to_units`."""
    if bits == 8:
        return units
    if bits == 1:
        return np.packbits(units, axis=1)
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    parts = units.reshape(len(units), -1, 8 // bits) << shifts
    return np.bitwise_or.reduce(parts, axis=2)
