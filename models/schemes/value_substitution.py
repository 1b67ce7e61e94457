"""Values that a table replaces at some places of every block, and how to read the plain image from the 8-bit view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images, check_images
from unveil.models.schemes.block_interpolation import interpolate

UNKNOWN = -1
_MAX_CORRECTION = 30  # grey levels: a larger one means that an unknown plain value has the same symbol


@dataclass(frozen=True)
class ValueSubstitution:
    """masked: bool [P, P, 3], the places in a block where a table replaces the values; the others are in clear.

    symbols: int [256], in 0..255 what replaces each plain value, or UNKNOWN; several values may share a symbol.
    white: the clear ciphertext value of plain 255, before rounding.
    """

    masked: npt.NDArray[np.bool_]
    symbols: npt.NDArray[np.intp]
    white: float

    def decrypt(self, images: Images) -> Images:
        """Read ciphertexts uint8 [N, H, W, 3], sides multiples of P.

        A masked value becomes the plain value of its symbol that is closest to the value predicted from the clear ones,
        or that prediction if no plain value of the symbol is known.
        """
        predicted = np.rint(self.predict(images)).astype(np.uint8)
        masked = np.tile(self.masked, (images.shape[1] // len(self.masked), images.shape[2] // len(self.masked), 1))
        out = predicted.copy()
        out[:, masked] = self._nearest_values()[images[:, masked], predicted[:, masked]]
        return out

    def predict(self, images: Images) -> npt.NDArray[np.float32]:
        """The plain images without the table, 0..255, not rounded: masked values predicted from the clear ones."""
        check_images(images)
        plain = interpolate(np.minimum(images.astype(np.float32) * np.float32(255 / self.white), 255), self.masked)
        return np.clip(plain, 0, 255)

    def _nearest_values(self) -> npt.NDArray[np.uint8]:
        """[symbol, predicted value] -> plain value."""
        values = np.arange(256)
        nearest = np.tile(values, (256, 1))
        max_correction = _MAX_CORRECTION if (self.symbols == UNKNOWN).any() else 255
        for symbol in np.unique(self.symbols[self.symbols != UNKNOWN]):
            candidates = np.flatnonzero(self.symbols == symbol)
            closest = candidates[np.abs(candidates[:, None] - values).argmin(0)]
            nearest[symbol] = np.where(np.abs(closest - values) <= max_correction, closest, values)
        return nearest.astype(np.uint8)
