"""Readers: what a recognised structure makes of ciphertexts, and how values that it leaves open are filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images, quantise

Known = npt.NDArray[np.bool_]

_MIN_KNOWN_SHARE = 0.01  # of an image's channel, to fill the rest of it in from its own neighbours


class Reader(Protocol):
    """A map recovered from pairs."""

    @property
    def description(self) -> str:
        """One clause that says what the cipher does, such as "all values stay in place"."""

    @property
    def conclusive(self) -> bool:
        """Whether the pairs prove the structure although it may read little of other ciphertexts."""

    def read(self, ciphertexts: Images) -> tuple[Images, Known]:
        """Ciphertexts uint8 [N, H, W, 3] -> estimates of the plain images, and which of the values are certain."""


class Transform(Protocol):
    """A step that is undone before a reader can read, such as a shuffle of blocks."""

    @property
    def description(self) -> str:
        """As of a reader."""

    def undo(self, ciphertexts: Images) -> Images:
        """Ciphertexts uint8 [N, H, W, 3] -> as they would be without this step."""


@dataclass(frozen=True)
class Composed:
    """A reader of ciphertexts whose last step is `transform`."""

    transform: Transform
    reader: Reader

    @property
    def description(self) -> str:
        return f"{self.reader.description}, then {self.transform.description}"

    @property
    def conclusive(self) -> bool:
        return self.reader.conclusive

    def read(self, ciphertexts: Images) -> tuple[Images, Known]:
        return self.reader.read(self.transform.undo(ciphertexts))


@dataclass(frozen=True)
class StructureInverse:
    """The inverse that a reader amounts to."""

    reader: Reader

    def decrypt(self, images: Images) -> Images:
        """Ciphertexts under the attacked key, uint8 [N, H, W, 3] -> plain images; open values are filled in."""
        return fill_in(*self.reader.read(images))


def fill_in(images: Images, known: Known) -> Images:
    """Replace values that are not known by the mean of the nearest known values of their channel.

    A channel with next to no known values takes the mean of the known channels of the same pixel.
    """
    if known.all():
        return images
    share = known.mean(axis=(1, 2), keepdims=True)  # [N, 1, 1, 3]
    own = share >= _MIN_KNOWN_SHARE
    if not own.any():
        return images
    usable = known & own
    filled = _fill_from_neighbours(images, usable)
    counts = own.sum(axis=3, keepdims=True)
    others = np.where(own, filled, 0).sum(axis=3, keepdims=True) / np.maximum(counts, 1)
    estimated = np.where(own, filled, np.where(counts > 0, others, images))
    return np.where(usable, images, quantise(estimated))


def _fill_from_neighbours(images: Images, known: Known) -> npt.NDArray[np.float32]:
    """Means over squares that double until they hold a known value."""
    values, weights = np.where(known, images, 0).astype(np.float32), known.astype(np.float32)
    levels = [(values, weights)]
    while max(values.shape[1:3]) > 1 and not (weights > 0).all():
        values, weights = _halve(values), _halve(weights)
        levels.append((values, weights))
    values, weights = levels.pop()
    filled: npt.NDArray[np.float32] = (values / np.maximum(weights, 1e-9)).astype(np.float32)
    while levels:
        values, weights = levels.pop()
        coarse = filled.repeat(2, axis=1).repeat(2, axis=2)[:, : values.shape[1], : values.shape[2]]
        filled = np.where(weights > 0, values / np.maximum(weights, 1e-9), coarse).astype(np.float32)
    return filled


def _halve(array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    count, height, width, channels = array.shape
    padded = np.pad(array, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    pairs = padded.reshape(count, (height + 1) // 2, 2, (width + 1) // 2, 2, channels)
    return np.asarray(pairs.sum(axis=(2, 4)), np.float32)
