"""How well blocks were put together: direct, neighbour and largest-component comparison (Cho 2010, Gallagher 2012)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unveil.models.core.blocks import to_blocks
from unveil.models.core.images import Images
from unveil.models.schemes.block_inverse import SYMMETRIES, apply_symmetry
from unveil.models.schemes.pixelwise import ORDERS

Floats = npt.NDArray[np.float64]
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Assembly:
    """Shares in 0..1 for each image. Blocks that are equal are interchangeable.

    direct: of the blocks that are in their place (D_c), upright and in colours that all of them share. neighbour: of
    the borders between blocks that are borders of the original (N_c). largest: of the blocks that the largest part
    consists of that such borders hold together (L_c). Neighbours may be rotated, mirrored, inverted and exchange
    channels as long as they do so together.
    """

    direct: Floats
    neighbour: Floats
    largest: Floats


def compare_assembly(plain: Images, reconstructed: Images, side: int) -> Assembly:
    """Images uint8 [N, H, W, 3] of blocks of `side` pixels; what remains of a side that is no multiple is left out.

    Raises ValueError for images smaller than a block.
    """
    height, width = (length // side * side for length in plain.shape[1:3])
    if not height or not width:
        raise ValueError(f"images of {plain.shape[2]}x{plain.shape[1]} hold no block of {side}x{side} pixels")
    pairs = zip(plain[:, :height, :width], reconstructed[:, :height, :width], strict=True)
    shares = np.array([_compare(truth, found, side) for truth, found in pairs]).reshape(-1, 3)
    return Assembly(*shares.T)


def _compare(truth: Images, found: Images, side: int) -> tuple[float, float, float]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, columns = truth.shape[0] // side, truth.shape[1] // side
    count = rows * columns
    own = to_blocks(found[None], side)[0]
    direct = max(
        float((to_blocks(variant[None], side)[0] == own).all((1, 2, 3)).mean()) for variant in _recoloured(truth)
    )
    if count == 1:
        return direct, direct, direct
    known = np.unique(_hash(np.concatenate([_strips(view, side) for view in _views(truth)])))
    right = np.isin(_hash(_strips(found, side)), known)
    down = np.isin(_hash(_strips(np.rot90(found), side)), known)
    grid = np.arange(count).reshape(rows, columns)
    upright = np.rot90(grid)  # the order of the strips of the rotated image
    first = np.concatenate([grid[:, :-1].ravel(), upright[:, :-1].ravel()])
    second = np.concatenate([grid[:, 1:].ravel(), upright[:, 1:].ravel()])
    joined = np.concatenate([right, down])
    edges = coo_array((np.ones(joined.sum()), (first[joined], second[joined])), shape=(count, count))
    largest = np.bincount(connected_components(edges, directed=False)[1]).max()
    # A single block is no part of an image that was put together.
    return direct, float(joined.mean()), float(largest / count) if joined.any() else 0.0


def _recoloured(image: Images) -> list[Images]:
    return [view[..., order] for view in (image, 255 - image) for order in ORDERS.astype(np.intp)]


def _views(image: Images) -> list[Images]:
    """The image in all symmetries and colours."""
    return [variant for symmetry in range(SYMMETRIES) for variant in _recoloured(apply_symmetry(image, symmetry))]


def _strips(image: Images, side: int) -> Images:
    """Each block with its right neighbour, row by row: [strips, side, 2 * side * 3]."""
    height, width, channels = image.shape
    rows = image.reshape(height // side, side, width // side, side * channels)
    pairs = np.concatenate([rows[:, :, :-1], rows[:, :, 1:]], axis=3)
    return pairs.transpose(0, 2, 1, 3).reshape(-1, side, 2 * side * channels)


def _hash(strips: Images) -> Hashes:
    """A 64-bit hash of each strip: a random linear form modulo 2**64."""
    flat = strips.reshape(len(strips), -1)
    multipliers = np.random.default_rng(1).integers(1, 2**63, flat.shape[1], np.uint64) * np.uint64(2) + np.uint64(1)
    return np.asarray(flat.astype(np.uint64) @ multipliers)
