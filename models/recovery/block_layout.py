"""The layout of moved blocks, from the continuity of natural images across block borders.

Borders of blocks that are neighbours in the plain image agree in all images that share the key. The layout grows from a
pair of blocks; each step places the block that fits its neighbours best and leads most over the next candidate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unveil.models.core.run_context import OnStep
from unveil.models.schemes.block_inverse import SYMMETRIES, Integers, apply_symmetry

Floats = npt.NDArray[np.float32]

MAX_BLOCKS = 1200  # of an image: the correlations of all borders take 1.9 GB
MAX_UPRIGHT_BLOCKS = SYMMETRIES * MAX_BLOCKS
_MAX_IMAGES = 64  # compared by upright blocks
_NOISE = 4.0  # grey levels squared: differences of borders below the noise of images tell nothing
_STARTS = 4  # layouts grown from different pairs, of which the one with the highest fit is kept
_LEAD_WEIGHT = 2.0  # weight of the lead over the next candidate, against the fit itself
_MIN_NORM = 1e-6  # of a border: constant borders correlate with nothing


@dataclass(frozen=True)
class BlockLayout:
    """The blocks in their plain order, up to one symmetry and one inversion of the whole image.

    blocks: [R, C] index of the scrambled block; symmetries: [R, C] the symmetry that brings it upright; signs: [R, C]
    -1 where the block is inverted relative to the first placed block; fit: mean correlation of neighbouring borders,
    in -1..1.
    """

    blocks: Integers
    symmetries: Integers
    signs: Integers
    fit: float


def recover_layout(grey: Floats, rows: int, columns: int, on_step: OnStep = lambda: None) -> BlockLayout:
    """The layout of grey blocks [N, B, P, P], mean near 0, B = rows * columns; rows and columns may come out exchanged.

    Each block may be rotated, mirrored and inverted. Raises ValueError above MAX_BLOCKS.
    """
    _check_count(grey.shape[1], MAX_BLOCKS)
    return _grow_best(*_border_correlations(grey), (rows, columns), SYMMETRIES, on_step, turned=True)


def recover_block_order(
    blocks: Floats, rows: int, columns: int, on_step: OnStep = lambda: None, *, turned: bool = True
) -> Integers:
    """The index of the block at each place [R, C], of blocks [N, B, P, P, C] whose channels are continuous.

    turned: all blocks may be turned by the same symmetry; then rows and columns may come out exchanged. Raises
    ValueError above MAX_UPRIGHT_BLOCKS.
    """
    _check_count(blocks.shape[1], MAX_UPRIGHT_BLOCKS)
    sampled = blocks[np.linspace(0, len(blocks) - 1, min(_MAX_IMAGES, len(blocks))).astype(int)]
    right = _border_similarities(sampled, on_step)
    down = _border_similarities(sampled.swapaxes(2, 3), on_step)
    if not turned and columns == 1:  # a layout grows from two blocks side by side
        return _grow_best(down, right, (columns, rows), 1, on_step, turned=False).blocks.T
    return _grow_best(right, down, (rows, columns), 1, on_step, turned=turned).blocks


def _border_similarities(blocks: Floats, on_step: OnStep) -> Floats:
    """How well the left border of block j continues the right border of i [B, B], of blocks [N, B, P, P, C].

    The mean over images of the negative logarithm of the squared difference, less the means of its row and its column,
    or 0: images and blocks of any contrast count alike, and one edge that ends at a border costs little.
    """
    count = blocks.shape[1]
    total = np.zeros((count, count), np.float32)
    # Half a pixel outwards.
    right = (1.5 * blocks[..., -1, :] - 0.5 * blocks[..., -2, :]).reshape(len(blocks), count, -1)
    left = (1.5 * blocks[..., 0, :] - 0.5 * blocks[..., 1, :]).reshape(len(blocks), count, -1)
    for outer, inner in zip(right, left, strict=True):
        on_step()
        squares = (outer**2).sum(1)[:, None] + (inner**2).sum(1) - 2 * outer @ inner.T
        total -= np.log(np.maximum(squares / outer.shape[1], 0) + _NOISE)
    total /= np.float32(len(blocks))
    total -= total.mean(0)
    total -= total.mean(1, keepdims=True)
    return np.maximum(total, 0)


def _check_count(count: int, limit: int) -> None:
    if count > limit:
        raise ValueError(
            f"the layout of at most {limit} blocks can be recovered; an image has {count}: evaluate smaller images"
        )


def _grow_best(
    right: Floats, down: Floats, shape: tuple[int, int], variants: int, on_step: OnStep, *, turned: bool
) -> BlockLayout:
    """The layout with the highest fit of several, grown from different pairs of blocks."""
    count = len(right) // variants
    if count == 1:
        single = np.zeros((1, 1), np.intp)
        return BlockLayout(single, single, single + 1, 1.0)
    strength = np.abs(right)
    block_of = np.arange(len(right)) // variants
    strength[block_of[:, None] == block_of] = -np.inf
    partner = strength.argmax(1)
    certainty = strength[np.arange(len(strength)), partner]
    best_symmetry = certainty.reshape(-1, variants).argmax(1) + np.arange(count) * variants
    # Both blocks of a pair are next to each other in this order.
    starts = best_symmetry[np.argsort(-certainty[best_symmetry], kind="stable")][: 2 * _STARTS : 2]
    layouts = []
    for start in starts.tolist():
        on_step()
        layouts.append(_grow(right, down, start, int(partner[start]), shape, variants, turned=turned))
    return max(layouts, key=lambda layout: layout.fit)


def _border_correlations(grey: Floats) -> tuple[Floats, Floats]:
    """Correlations [B * 8, B * 8] of the right border of i with the left one of j, and of bottom with top."""
    count = grey.shape[1]

    def normalised(outer: Floats, inner: Floats) -> Floats:
        border = (1.5 * outer - 0.5 * inner).transpose(1, 0, 2).reshape(count, -1)  # half a pixel outwards
        border = border - border.mean(1, keepdims=True)
        return border / np.maximum(np.linalg.norm(border, axis=1, keepdims=True), _MIN_NORM)

    def in_all_symmetries(row: bool, outer: int, inner: int) -> Floats:
        borders = []
        for symmetry in range(SYMMETRIES):
            view = apply_symmetry(grey[..., None], symmetry)[..., 0]
            view = view if row else view.swapaxes(-1, -2)
            borders.append(normalised(view[..., outer, :], view[..., inner, :]))
        return np.stack(borders, axis=1).reshape(count * SYMMETRIES, -1)

    right, left = in_all_symmetries(False, -1, -2), in_all_symmetries(False, 0, 1)
    bottom, top = in_all_symmetries(True, -1, -2), in_all_symmetries(True, 0, 1)
    return right @ left.T, bottom @ top.T


def _grow(
    right: Floats, down: Floats, first: int, second: int, shape: tuple[int, int], variants: int, *, turned: bool
) -> BlockLayout:
    """Grow a layout from variant `first` (block * variants + symmetry) with variant `second` to its right."""
    blocks = len(right) // variants
    side = 2 * max(shape) + 3
    placed = np.full((side, side), -1, np.intp)
    signs = np.zeros((side, side), np.intp)
    unused = np.ones(blocks, np.bool_)
    rows_right, rows_left, rows_down, rows_up = right, np.ascontiguousarray(right.T), down, np.ascontiguousarray(down.T)
    fits: dict[tuple[int, int], Floats] = {}  # of every variant at each free place beside a placed block
    candidates: dict[tuple[int, int], tuple[float, int, int]] = {}  # rank, variant and sign at each of these places
    total, borders = 0.0, 0

    def neighbours(y: int, x: int) -> Iterator[tuple[int, int, Floats]]:
        for ny, nx, rows in ((y, x - 1, rows_right), (y, x + 1, rows_left), (y - 1, x, rows_down), (y + 1, x, rows_up)):
            if placed[ny, nx] >= 0:
                yield ny, nx, rows

    def best_candidate(place: tuple[int, int]) -> tuple[float, int, int]:
        fit = fits[place]
        value = np.where(np.repeat(unused, variants), np.abs(fit), -np.inf)
        variant = int(value.argmax())
        lead = value[variant]
        value[variant] = -np.inf
        rest = value.max()
        rank = lead + _LEAD_WEIGHT * (lead - rest) if np.isfinite(rest) else lead
        return float(rank), variant, -1 if fit[variant] < 0 else 1

    def put(y: int, x: int, variant: int, sign: int) -> None:
        nonlocal total, borders
        for ny, nx, rows in neighbours(y, x):
            total += float(sign * signs[ny, nx] * rows[placed[ny, nx], variant])
            borders += 1
        placed[y, x], signs[y, x] = variant, sign
        unused[variant // variants] = False
        fits.pop((y, x), None)
        candidates.pop((y, x), None)
        for ny, nx in ((y, x - 1), (y, x + 1), (y - 1, x), (y + 1, x)):
            if placed[ny, nx] < 0:
                around = [signs[ay, ax] * rows[placed[ay, ax]] for ay, ax, rows in neighbours(ny, nx)]
                # The noise of a sum of k correlations grows with the root of k.
                fits[ny, nx] = np.sum(around, axis=0) / np.sqrt(np.float32(len(around)))
                candidates[ny, nx] = best_candidate((ny, nx))
        for place, (_, other, _) in candidates.items():
            if other // variants == variant // variants:
                candidates[place] = best_candidate(place)

    centre = side // 2
    put(centre, centre, first, 1)
    put(centre, centre + 1, second, -1 if right[first, second] < 0 else 1)
    shapes = (shape, shape[::-1]) if turned else (shape,)
    for _ in range(blocks - 2):
        ys, xs = np.nonzero(placed >= 0)
        top, bottom, left, end = ys.min(), ys.max(), xs.min(), xs.max()

        def fits_in(place: tuple[int, int], box: tuple[int, ...] = (top, bottom, left, end)) -> bool:
            height = max(box[1], place[0]) - min(box[0], place[0]) + 1
            width = max(box[3], place[1]) - min(box[2], place[1]) + 1
            return any(height <= rows and width <= columns for rows, columns in shapes)

        place = max((place for place in candidates if fits_in(place)), key=lambda place: candidates[place][0])
        put(*place, *candidates[place][1:])
    ys, xs = np.nonzero(placed >= 0)
    box = (slice(ys.min(), ys.max() + 1), slice(xs.min(), xs.max() + 1))
    return BlockLayout(placed[box] // variants, placed[box] % variants, signs[box], total / borders)
