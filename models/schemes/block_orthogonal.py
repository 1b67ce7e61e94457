"""Block-wise random orthogonal transforms for isotropic networks (Aso et al. 2023) [R].

The embedding of the patches of a network absorbs the transform, so the network classifies ciphertexts as well as plain
images. No published text says how real-valued ciphertexts become 8-bit images; the affine map here is a choice.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unveil.models.core import keystream
from unveil.models.core.blocks import check_sides, cut_blocks, from_blocks
from unveil.models.core.images import Images
from unveil.models.core.settings_schema import ParameterError, setting
from unveil.models.core.structure import CiphertextFormat, LinearMap
from unveil.models.schemes.base import Scheme
from unveil.models.schemes.key_json import check_fields

Floats = npt.NDArray[np.float32]

# Ciphertext values reach 510 in either direction, four standard deviations of those of an all-white or all-black block.
RANGE = 510.0
STEP = 4.0  # of the 8-bit view, which is 127.5 + value / STEP
_MAX_DEVIATION = 1e-3  # of an explicit matrix from an orthogonal one: rounded decimals pass
_CHUNK = 16  # images that stay in the cache of a core


@dataclass(frozen=True)
class BlockOrthogonalSettings:
    block: int = setting(4, "Side of a block in pixels", minimum=2, maximum=16)


@dataclass(frozen=True)
class BlockOrthogonalKey:
    """matrix: float32 [D, D], orthogonal; the D = 3 * P * P values of a block are in row, column, channel order."""

    matrix: Floats


class BlockOrthogonal(Scheme[BlockOrthogonalSettings, BlockOrthogonalKey]):
    """The values of each block, less 127.5, are multiplied by one random orthogonal matrix.

    The 8-bit view is 127.5 + value / 4, rounded and clipped: rounding makes decryption inexact.
    """

    name = "block-orthogonal"
    title = "Block-wise orthogonal transform"
    source = "Aso, Chuman, Kiya 2023 [R]"
    Settings = BlockOrthogonalSettings

    @property
    def size_multiple(self) -> int:
        return self.settings.block

    @property
    def structure(self) -> LinearMap:
        return LinearMap(self.settings.block)

    @property
    def ciphertext(self) -> CiphertextFormat:
        return CiphertextFormat("float32", -RANGE, RANGE)

    def derive(self, seed: bytes, height: int, width: int) -> BlockOrthogonalKey:  # noqa: ARG002
        """A uniformly distributed (Haar) orthogonal matrix: the QR decomposition of a Gaussian one."""
        size = 3 * self.settings.block**2
        words = np.frombuffer(keystream.keystream_bytes(seed, f"block-orthogonal/{size}", 16 * size**2), ">u8")
        uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
        radius, angle = np.sqrt(-2 * np.log(uniform[: size**2])), 2 * np.pi * uniform[size**2 :]
        matrix, upper = np.linalg.qr((radius * np.cos(angle)).reshape(size, size))
        return BlockOrthogonalKey((matrix * np.where(np.diag(upper) < 0, -1, 1)).astype(np.float32))

    def encrypt(self, images: Images, key: BlockOrthogonalKey) -> Floats:
        side = self.settings.block
        check_sides(images, side)
        out = np.empty(images.shape, np.float32)
        for first in range(0, len(images), _CHUNK):
            chunk = images[first : first + _CHUNK]
            values = cut_blocks(chunk, side).reshape(-1, 3 * side**2).astype(np.float32)
            values -= np.float32(127.5)
            moved = values @ key.matrix.T
            np.clip(moved, -RANGE, RANGE, out=moved)
            out[first : first + _CHUNK] = from_blocks(moved.reshape(len(chunk), -1, side, side, 3), chunk.shape)
        return out

    def view(self, ciphertexts: Floats, shape: tuple[int, ...]) -> Images:
        scaled = ciphertexts * np.float32(1 / STEP)
        scaled += np.float32(128)  # 127.5, and a half for the rounding of the conversion
        out = np.empty(shape, np.uint8)
        np.minimum(scaled, 255, out=scaled)
        np.copyto(out, scaled, casting="unsafe")
        return out

    def key_to_json(self, key: BlockOrthogonalKey) -> dict[str, Any]:
        return {"matrix": base64.b64encode(key.matrix.astype("<f4").tobytes()).decode()}

    def key_from_json(self, material: Mapping[str, Any]) -> BlockOrthogonalKey:
        """matrix: base64 of little-endian float32 numbers, row by row."""
        check_fields(material, {"matrix"})
        size = 3 * self.settings.block**2
        try:
            values = np.frombuffer(base64.b64decode(material.get("matrix", ""), validate=True), "<f4")
            matrix = values.reshape(size, size).astype(np.float32)
        except (binascii.Error, TypeError, ValueError):
            detail = f"must be base64 of {size} x {size} little-endian float32 numbers"
            raise ParameterError([("/matrix", detail)]) from None
        if not np.isfinite(matrix).all() or np.abs(matrix @ matrix.T - np.eye(size)).max() > _MAX_DEVIATION:
            raise ParameterError(
                [("/matrix", "must be orthogonal: its product with its transpose is not the identity")]
            )
        return BlockOrthogonalKey(matrix)
