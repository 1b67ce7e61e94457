"""The layout of scrambled blocks, from the continuity of natural images across block borders.

Borders of blocks that are neighbours in the plain image correlate over all images that share the key. The layout grows
from a pair of blocks; each step places the block that fits its neighbours best and leads most over the next candidate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.intp]
Element = TypeVar("Element", bound=np.generic)

TURNS = 8  # quarter turns 0 to 3; 4 to 7: mirrored left to right first
_STARTS = 4  # layouts grown from different pairs, of which the one with the highest fit is kept
_LEAD_WEIGHT = 2.0  # weight of the lead over the next candidate, against the fit itself
_MIN_NORM = 1e-6  # of a border: constant borders correlate with nothing


@dataclass(frozen=True)
class BlockLayout:
    """The blocks in their plain order, up to one turn and one inversion of the whole image.

    blocks: [rows, columns] index of the scrambled block; turns: [rows, columns] the code of `turn_blocks` that brings
    it upright; signs: [rows, columns] -1 where the block is inverted relative to the first placed block; fit: mean
    correlation of neighbouring borders, in -1..1.
    """

    blocks: Integers
    turns: Integers
    signs: Integers
    fit: float


def turn_blocks(images: npt.NDArray[Element], code: int) -> npt.NDArray[Element]:
    """Mirror [..., H, W, C] left to right if `code` is 4 or more, then rotate by `code` % 4 quarter turns."""
    return np.rot90(images[..., ::-1, :] if code >= 4 else images, code % 4, axes=(-3, -2))


def recover_layout(grey: Floats, rows: int, columns: int, *, scrambled_turns: bool) -> BlockLayout:
    """The layout of grey blocks [N, B, P, P], mean near 0, B = rows * columns; side lengths may come out exchanged.

    scrambled_turns: each block may be turned, mirrored and inverted; otherwise only the order of blocks is unknown.
    """
    right, down = _border_correlations(grey, TURNS if scrambled_turns else 1)
    turns = len(right) // grey.shape[1]
    strength = np.abs(right) if scrambled_turns else right.copy()
    block_of = np.arange(len(right)) // turns
    strength[block_of[:, None] == block_of] = -np.inf
    partner = strength.argmax(1)
    certainty = strength[np.arange(len(strength)), partner]
    # The best variant of each block, so that the starts differ in more than their turn.
    first = certainty.reshape(-1, turns).argmax(1) + np.arange(grey.shape[1]) * turns
    starts = first[np.argsort(-certainty[first], kind="stable")][: 2 * _STARTS : 2]
    layouts = [
        _grow(right, down, int(start), int(partner[start]), (rows, columns), turns, inversions=scrambled_turns)
        for start in starts
    ]
    return max(layouts, key=lambda layout: layout.fit)


def _border_correlations(grey: Floats, turns: int) -> tuple[Floats, Floats]:
    """Correlations [B * turns, B * turns] of the right border of i with the left one of j, and of bottom with top."""
    count = grey.shape[1]

    def normalised(outer: Floats, inner: Floats) -> Floats:
        border = (1.5 * outer - 0.5 * inner).transpose(1, 0, 2).reshape(count, -1)  # half a pixel outwards
        border = border - border.mean(1, keepdims=True)
        return border / np.maximum(np.linalg.norm(border, axis=1, keepdims=True), _MIN_NORM)

    def all_turns(row: bool, outer: int, inner: int) -> Floats:
        borders = []
        for code in range(turns):
            view = turn_blocks(grey[..., None], code)[..., 0]
            view = view if row else view.swapaxes(-1, -2)
            borders.append(normalised(view[..., outer, :], view[..., inner, :]))
        return np.stack(borders, axis=1).reshape(count * turns, -1)

    right, left = all_turns(False, -1, -2), all_turns(False, 0, 1)
    bottom, top = all_turns(True, -1, -2), all_turns(True, 0, 1)
    return right @ left.T, bottom @ top.T


def _grow(
    right: Floats, down: Floats, first: int, second: int, shape: tuple[int, int], turns: int, *, inversions: bool
) -> BlockLayout:
    """Grow a layout from variant `first` (block * turns + turn) with variant `second` to its right."""
    blocks = len(right) // turns
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
        value = np.where(np.repeat(unused, turns), np.abs(fit) if inversions else fit, -np.inf)
        variant = int(value.argmax())
        lead = value[variant]
        value[variant] = -np.inf
        rest = value.max()
        rank = lead + _LEAD_WEIGHT * (lead - rest) if np.isfinite(rest) else lead
        return float(rank), variant, -1 if inversions and fit[variant] < 0 else 1

    def put(y: int, x: int, variant: int, sign: int) -> None:
        nonlocal total, borders
        for ny, nx, rows in neighbours(y, x):
            total += float(sign * signs[ny, nx] * rows[placed[ny, nx], variant])
            borders += 1
        placed[y, x], signs[y, x] = variant, sign
        unused[variant // turns] = False
        fits.pop((y, x), None)
        candidates.pop((y, x), None)
        for ny, nx in ((y, x - 1), (y, x + 1), (y - 1, x), (y + 1, x)):
            if placed[ny, nx] < 0:
                around = [signs[ay, ax] * rows[placed[ay, ax]] for ay, ax, rows in neighbours(ny, nx)]
                # The noise of a sum of k correlations grows with the root of k.
                fits[ny, nx] = np.sum(around, axis=0) / np.sqrt(np.float32(len(around)))
                candidates[ny, nx] = best_candidate((ny, nx))
        for place, (_, other, _) in candidates.items():
            if other // turns == variant // turns:
                candidates[place] = best_candidate(place)

    centre = side // 2
    put(centre, centre, first, 1)
    put(centre, centre + 1, second, -1 if inversions and right[first, second] < 0 else 1)
    long, short = max(shape), min(shape)
    for _ in range(blocks - 2):
        ys, xs = np.nonzero(placed >= 0)
        top, bottom, left, end = ys.min(), ys.max(), xs.min(), xs.max()

        def fits_in(place: tuple[int, int], box: tuple[int, ...] = (top, bottom, left, end)) -> bool:
            height = max(box[1], place[0]) - min(box[0], place[0]) + 1
            width = max(box[3], place[1]) - min(box[2], place[1]) + 1
            return max(height, width) <= long and min(height, width) <= short

        place = max((place for place in candidates if fits_in(place)), key=lambda place: candidates[place][0])
        put(*place, *candidates[place][1:])
    ys, xs = np.nonzero(placed >= 0)
    box = (slice(ys.min(), ys.max() + 1), slice(xs.min(), xs.max() + 1))
    return BlockLayout(placed[box] // turns, placed[box] % turns, signs[box], total / borders)
