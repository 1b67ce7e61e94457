"""A fixed orthogonal map of all blocks, from the second-order statistics of the ciphertexts alone [M].

An orthogonal map Q turns the moments B of natural blocks and of their neighbours into Q B Q^T. The eigenvectors of both
give Q up to signs, which the products of the moments with the neighbours settle; a polar iteration then matches all
moments, with more and more weight on the weak components. Finally, a descent makes the gradients of the images sparse:
each step moves the images and takes the orthogonal map nearest to them. The gamut and the colours of natural images
settle the signs of the colour channels, which second-order statistics do not show.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unveil.models.core.blocks import cut_blocks, from_blocks
from unveil.models.core.images import Images, quantise
from unveil.models.core.run_context import OnStep
from unveil.models.recovery.block_moments import (
    OPPONENTS,
    Doubles,
    Floats,
    block_moments,
    frequency_basis,
    load_public_moments,
    to_grid,
)
from unveil.models.recovery.color_ambiguity import MAX_IMAGES, ColorTransform, choose_color_transform
from unveil.models.schemes.pixelwise import ORDERS

_FLOOR = 1e-4  # of the mean variance of the components, added to each: rounding hides the weakest
_WHITENING = (0.0, 0.3, 0.6, 0.8)  # powers, from none to full whitening, of the stages of the polar iteration
_ITERATIONS = 40  # of each stage
_SIGN_SWEEPS = 50
_DESCENT_IMAGES = 64
_DESCENT_STEPS = 40
_STEP = 0.1  # of the descent, below the reciprocal of the largest curvature
_EDGE = 8.0  # grey levels: larger gradients count as edges and pull less
_CHANNEL_WEIGHTS = np.array([1, 2, 2], np.float32)  # of the gradients of luma and the two chroma channels
_WEIGHTED_OPPONENTS = _CHANNEL_WEIGHTS[:, None] * OPPONENTS.astype(np.float32)
_TRIAL_IMAGES = 16  # on which flips of single components are tried


@dataclass(frozen=True)
class LinearInverse:
    """Restores plain blocks: plain values = 127.5 + (ciphertext values - 127.5) * scale @ matrix.

    side: of a block; matrix: [D, D], orthogonal, values in row, column, channel order; scale: the step of a ciphertext
    value. fit: the mean correlation of the recovered moments of neighbours with those of natural blocks, -1..1.
    """

    side: int
    scale: float
    matrix: Floats
    fit: float

    def decrypt(self, images: Images) -> Images:
        """Read ciphertexts uint8 [N, H, W, 3]."""
        grid = to_grid(images, self.side, self.scale)
        plain = quantise(grid.reshape(-1, grid.shape[-1]) @ self.matrix + np.float32(127.5))
        return from_blocks(plain.reshape(len(images), -1, self.side, self.side, 3), images.shape)


def invert_linear_blocks(
    ciphertexts: Images, to_read: Images, side: int, scale: float, on_step: OnStep = lambda: None
) -> tuple[LinearInverse, ColorTransform]:
    """From ciphertexts uint8 [N, H, W, 3]; the first images of `to_read` determine the colours.

    scale: how far the linear map moves its output when a ciphertext value changes by 1. Raises ValueError for
    ciphertexts whose blocks are all equal, and KeyError for a side without public moments.
    """
    grid = to_grid(ciphertexts, side, scale)
    if not len(grid) or (grid == grid[:1, :1, :1]).all():
        raise ValueError("ciphertexts must differ from block to block; all of their blocks are equal")
    cipher, public = block_moments(grid), load_public_moments(side)
    matched = _match_moments(cipher, public, _match_eigenvectors(cipher, public), on_step)
    matrix = _flip_components(grid, _descend(grid, matched, on_step), on_step)
    fit = moment_fit(cipher, public, matrix)
    sample = to_read[:MAX_IMAGES]
    matrix = matrix @ _on_channels(_choose_chroma_signs(to_grid(sample, side, scale), matrix), side)
    color = choose_color_transform(LinearInverse(side, scale, matrix, fit).decrypt(sample))
    channels = np.eye(3)[:, ORDERS[color.order].astype(np.intp)] * (-1 if color.negative else 1)
    return LinearInverse(side, scale, matrix @ _on_channels(channels, side), fit), color


def moment_fit(cipher: Doubles, public: Doubles, matrix: Floats) -> float:
    """The mean correlation of whitened moments of neighbours, of recovered blocks with natural ones."""
    recovered = matrix.T @ _whiten(cipher, _WHITENING[-1])[1:] @ matrix
    natural = _whiten(public, _WHITENING[-1])[1:]
    lengths = np.linalg.norm(recovered, axis=(1, 2)) * np.linalg.norm(natural, axis=(1, 2))
    return float(((recovered * natural).sum((1, 2)) / np.maximum(lengths, 1e-9)).mean())


def _whiten(moments: Doubles, power: float) -> Doubles:
    """Moments with each principal component of the blocks divided by its standard deviation to this power."""
    variances, components = np.linalg.eigh(moments[0])
    root = (components * (np.maximum(variances, 0) + _variance_floor(moments)) ** (-power / 2)) @ components.T
    whitened: Doubles = root @ moments @ root
    return whitened


def _variance_floor(moments: Doubles) -> float:
    return float(np.trace(moments[0])) / len(moments[0]) * _FLOOR


def _polar(matrix: Doubles) -> Doubles:
    """The orthogonal matrix nearest to this one."""
    left, _, right = np.linalg.svd(matrix)
    nearest: Doubles = left @ right
    return nearest


def _match_eigenvectors(cipher: Doubles, public: Doubles) -> Doubles:
    """The map of the principal components of natural blocks to those of ciphertexts, in the order of their variances.

    The signs are those for which the moments of neighbours agree best.
    """
    bases, couplings = [], []
    for moments in (cipher, public):
        variances, components = np.linalg.eigh(moments[0])
        scaled = components / np.sqrt(np.maximum(variances, 0) + _variance_floor(moments))
        bases.append(components)
        couplings.append(scaled.T @ moments[1:] @ scaled)
    agreement = (couplings[0] * couplings[1]).sum(0)
    agreement = agreement + agreement.T
    np.fill_diagonal(agreement, 0)
    signs = np.where(np.linalg.eigh(agreement)[1][:, -1] < 0, -1.0, 1.0)
    for _ in range(_SIGN_SWEEPS):
        signs = np.where(agreement @ signs < 0, -1.0, 1.0)
    matched: Doubles = (bases[0] * signs) @ bases[1].T
    return matched


def _match_moments(cipher: Doubles, public: Doubles, matrix: Doubles, on_step: OnStep) -> Doubles:
    """The polar iteration that increases the products of all moments, whitened in stages."""
    for power in _WHITENING:
        a, b = _whiten(cipher, power), _whiten(public, power)
        a = a / np.square(np.linalg.norm(b, axis=(1, 2)))[:, None, None]
        for _ in range(_ITERATIONS):
            on_step()
            products = a @ matrix @ b.swapaxes(1, 2) + a.swapaxes(1, 2) @ matrix @ b
            matrix = _polar(products.sum(0))
    return matrix


def _descend(grid: Floats, matrix: Doubles, on_step: OnStep) -> Floats:
    """The orthogonal map near `matrix` for which the gradients of the images are sparse."""
    grid = grid[np.linspace(0, len(grid) - 1, min(_DESCENT_IMAGES, len(grid))).astype(int)]
    flat, found = grid.reshape(-1, grid.shape[-1]), matrix.astype(np.float32)
    for _ in range(_DESCENT_STEPS):
        on_step()
        moved = (flat @ found).reshape(grid.shape)
        moved = moved - np.float32(_STEP) * _roughness_slope(moved)
        found = _polar((flat.T @ moved.reshape(flat.shape)).astype(np.float64)).astype(np.float32)
    return found


def _weighted_opponents(grid: Floats) -> Floats:
    """Blocks [N, R, C, D] as images [N, H, W, 3] in opponent colours, each channel times its weight."""
    count, rows, columns, size = grid.shape
    side = round((size // 3) ** 0.5)
    blocks = grid.reshape(count, rows * columns, side, side, 3)
    return from_blocks(blocks, (count, rows * side, columns * side, 3)) @ _WEIGHTED_OPPONENTS.T


def _roughness(grid: Floats) -> float:
    """The mean log(1 + g^2) of the scaled gradients g of blocks [N, R, C, D] in opponent colours."""
    image = _weighted_opponents(grid)
    return sum(float(np.log(_spread(np.diff(image, axis=axis))).mean()) for axis in (1, 2))


def _roughness_slope(grid: Floats) -> Floats:
    """The slope of `_roughness` at blocks [N, R, C, D], up to a factor."""
    side = round((grid.shape[3] // 3) ** 0.5)
    image = _weighted_opponents(grid)
    slope = np.zeros_like(image)
    for axis in (1, 2):
        steps = np.diff(image, axis=axis)
        pull = np.divide(steps, _spread(steps), out=steps)
        later, earlier = [slice(None)] * 4, [slice(None)] * 4
        later[axis], earlier[axis] = slice(1, None), slice(None, -1)
        slope[tuple(later)] += pull
        slope[tuple(earlier)] -= pull
    return cut_blocks(slope @ _WEIGHTED_OPPONENTS, side).reshape(grid.shape)


def _spread(steps: Floats) -> Floats:
    squares = np.square(steps)
    squares *= np.float32(_EDGE**-2)
    squares += np.float32(1)
    return squares


def _flip_components(grid: Floats, matrix: Floats, on_step: OnStep) -> Floats:
    """Flip each component of the cosine transform whose inversion makes the images smoother, then descend again."""
    sample = grid[np.linspace(0, len(grid) - 1, min(_TRIAL_IMAGES, len(grid))).astype(int)]
    images, flips = sample @ matrix, np.eye(len(matrix), dtype=np.float32)
    best = _roughness(images)
    for component in frequency_basis(round((len(matrix) // 3) ** 0.5)).astype(np.float32)[3:]:
        on_step()
        flipped = images - 2 * (images @ component)[..., None] * component
        roughness = _roughness(flipped)
        if roughness < best:
            best, images = roughness, flipped
            flips -= 2 * np.outer(flips @ component, component)
    if (flips == np.eye(len(matrix))).all():
        return matrix
    return _descend(grid, (matrix @ flips).astype(np.float64), on_step)


def _choose_chroma_signs(grid: Floats, matrix: Floats) -> Doubles:
    """The inversions of chroma channels, [3, 3] on the channels of a pixel, that keep most values within 0..255."""
    plain = (grid @ matrix).reshape(len(grid), -1, 3)
    best: tuple[float, Doubles] | None = None
    for signs in ((1, 1, 1), (1, -1, 1), (1, 1, -1), (1, -1, -1)):
        inversion = OPPONENTS.T * np.array(signs) @ OPPONENTS
        beyond = np.maximum(np.abs(plain @ inversion.astype(np.float32)) - np.float32(127.5), 0)
        energy = float(np.sqrt((beyond**2).mean((1, 2))).sum())
        if best is None or energy < best[0]:
            best = energy, inversion
    assert best is not None
    return best[1]


def _on_channels(channels: Doubles, side: int) -> Floats:
    """The map of a block that applies [3, 3] to each pixel."""
    return np.kron(np.eye(side**2), channels).astype(np.float32)
