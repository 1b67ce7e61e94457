"""Second-order moments of blocks and their neighbours, which a linear map of the blocks transforms in a known way."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unveil.models.core.blocks import to_blocks
from unveil.models.core.images import Images

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

BUNDLED_MOMENTS = Path(__file__).parents[1] / "weights" / "block_moments.npz"
SIDES = range(2, 9)  # of the blocks whose public moments are bundled
_FLAT_VARIANCE = (
    20.0  # grey levels squared: a block counts by the inverse of its contrast plus this, so edges count less
)
# Luma and two chroma channels of a pixel, orthonormal; the second chroma axis separates green from magenta.
OPPONENTS = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])


def to_grid(images: Images, side: int, scale: float = 1.0) -> Floats:
    """uint8 [N, H, W, 3] -> blocks [N, R, C, D] of `scale` times the values less 127.5."""
    count, height, width, _ = images.shape
    blocks = to_blocks(images, side).reshape(count, height // side, width // side, 3 * side**2)
    return (blocks.astype(np.float32) - np.float32(127.5)) * np.float32(scale)


def block_moments(grid: Floats) -> Doubles:
    """Moments [3, D, D] of blocks [N, R, C, D]: of a block, with its right neighbour and with its lower neighbour.

    The contrast of a block, its length without the leading principal component, keeps its value under an orthogonal
    map. Blocks of high contrast weigh less, so that few edges do not outweigh all other blocks.
    """
    size = grid.shape[-1]
    flat = grid.reshape(-1, size)
    brightness = np.linalg.eigh(flat.T @ flat)[1][:, -1]
    contrast = ((flat**2).sum(1) - (flat @ brightness) ** 2).reshape(grid.shape[:3]) / size
    weighted = grid / np.sqrt(_FLAT_VARIANCE + np.maximum(contrast, 0))[..., None]
    pairs = (
        (weighted, weighted),
        (weighted[:, :, :-1], weighted[:, :, 1:]),
        (weighted[:, :-1], weighted[:, 1:]),
    )
    return np.stack([a.reshape(-1, size).T @ b.reshape(-1, size) / max(1, a.size // size) for a, b in pairs]).astype(
        np.float64
    )


def frequency_basis(side: int) -> Doubles:
    """Orthonormal rows [D, D]: the cosine transform of a block in luma and two chroma channels."""
    place, frequency = np.arange(side) + 0.5, np.arange(side)[:, None]
    cosines = np.cos(np.pi * frequency * place / side) * np.sqrt(np.where(frequency == 0, 1, 2) / side)
    return np.asarray(np.kron(np.kron(cosines, cosines), OPPONENTS), np.float64)


@cache
def load_public_moments(side: int) -> Doubles:
    """The moments of natural images, written by `unveil.models.tools.fit_block_moments`. Raises KeyError."""
    with np.load(BUNDLED_MOMENTS) as archive:
        moments = archive[f"side{side}"].astype(np.float64)
    basis = frequency_basis(side)
    return np.stack([basis.T @ moment @ basis for moment in moments])
