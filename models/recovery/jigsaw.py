"""Scrambled blocks of a single image, put together by the continuity of their borders [M].

Borders are compared by their Mahalanobis gradient compatibility (Gallagher 2012): the step across the border should
continue the steps on both sides of it. Every pair of blocks is tried in all turns, mirror images, inversions and
channel orders. The most certain borders join blocks to components, as in a minimum spanning tree; the largest
component then grows by the blocks that fit it best. The idea of solving encrypted images as jigsaw puzzles is by Chuman
and Kiya.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from unveil.models.core.blocks import to_blocks
from unveil.models.core.images import Images
from unveil.models.core.run_context import OnStep
from unveil.models.recovery.channel_orders import recover_channel_orders
from unveil.models.schemes.block_inverse import (
    INVERSE_SYMMETRIES,
    MIRROR,
    ORDER_NUMBERS,
    ORDER_PRODUCTS,
    SYMMETRIES,
    SYMMETRY_PRODUCTS,
    BlockInverse,
    Integers,
    apply_symmetry,
)
from unveil.models.schemes.pixelwise import INVERSE_ORDERS, ORDERS

Floats = npt.NDArray[np.float32]

MAX_BLOCKS = 400  # of an image: the fits of all borders take 250 MB
_ROTATIONS = 4
_COLOURS = 12  # 6 * negative + order
_UPSIDE_DOWN_MIRROR = 6  # the symmetry that exchanges top and bottom
_NOISE = 4.0  # grey levels squared, added to the variance of the steps at a border
_CANDIDATES = 8  # blocks considered beside each border
_INVERSE_COLOURS = np.array(
    [6 * negative + ORDER_NUMBERS[tuple(order)] for negative in (0, 1) for order in INVERSE_ORDERS.tolist()]
)
_COLOUR_PRODUCTS = np.array(
    [[6 * (a // 6 ^ b // 6) + ORDER_PRODUCTS[a % 6, b % 6] for b in range(_COLOURS)] for a in range(_COLOURS)]
)  # [a, b]: a, then b
_RIGHT, _STEPS = (0, 1), ((0, 1), (-1, 0), (0, -1), (1, 0))


def _linear_part(symmetry: int) -> Integers:
    """The matrix by which a symmetry moves offsets (row, column)."""
    matrix = np.array([[1, 0], [0, -1 if symmetry >= MIRROR else 1]])
    for _ in range(symmetry % _ROTATIONS):
        matrix = np.array([[0, -1], [1, 0]]) @ matrix
    return matrix


_LINEAR_PARTS = np.array([_linear_part(symmetry) for symmetry in range(SYMMETRIES)])
# [g, d]: the rotation r after which the border that faces _STEPS[d] in symmetry g is on the right.
_FACING = np.array(
    [
        [
            next(
                r
                for r in range(_ROTATIONS)
                if tuple(_LINEAR_PARTS[SYMMETRY_PRODUCTS[INVERSE_SYMMETRIES[r], g]] @ _RIGHT) == step
            )
            for step in _STEPS
        ]
        for g in range(SYMMETRIES)
    ]
)


@dataclass
class _Component:
    """Blocks with their places, symmetries and colours relative to each other."""

    members: Integers
    places: Integers  # [blocks, 2], row and column
    symmetries: Integers
    colours: Integers
    corners: Integers  # [2, 2], the smallest and the largest row and column


def assemble(image: Images, side: int, on_step: OnStep = lambda: None) -> BlockInverse:
    """One ciphertext uint8 [H, W, 3], sides multiples of `side` -> the inverse of the scheme for it.

    It is right up to one rotation, mirroring, inversion and channel order of the whole image. Raises ValueError above
    MAX_BLOCKS.
    """
    rows, columns = image.shape[0] // side, image.shape[1] // side
    if rows * columns > MAX_BLOCKS:
        raise ValueError(
            f"at most {MAX_BLOCKS} blocks can be put together; an image has {rows * columns}: evaluate smaller images"
        )
    blocks = to_blocks(image[None], side)[0].astype(np.float32) - np.float32(127.5)
    on_step()
    misfits = _border_misfits(blocks)
    on_step()
    largest = _join_components(misfits, rows, columns)
    on_step()
    grown = _grow(misfits, largest, rows, columns)
    places = grown.places - grown.places.min(0)
    maps = np.zeros((4, *(places.max(0) + 1)), np.intp)
    maps[:, places[:, 0], places[:, 1]] = grown.members, grown.symmetries, grown.colours // 6, grown.colours % 6
    inverse = BlockInverse(side, maps[0], maps[1], maps[2] > 0, maps[3])
    # Pairs of borders hardly show the channel order of a block of little colour; all its neighbours together do.
    flat = replace(inverse, orders=np.zeros_like(inverse.orders))
    upright = flat.decrypt(image[None]).astype(np.float32)
    inverse = replace(inverse, orders=recover_channel_orders(upright - upright.mean(-1, keepdims=True), side))
    return inverse if inverse.blocks.shape == (rows, columns) else inverse.transform(1, 0, negative=False)


def _border_misfits(blocks: Floats) -> Floats:
    """How badly borders fit, [B, 4, B, 8, 12], relative to the second-best block of either border; below 1 is good.

    [i, r, j, s, c]: the right border of block i after rotation r beside the right border of block j after symmetry s,
    which is the left one of its mirror image, in colours c. inf for i = j.
    """
    count, side = len(blocks), blocks.shape[1]
    views = np.stack([apply_symmetry(blocks, symmetry) for symmetry in range(SYMMETRIES)], axis=1)
    borders = views[..., -1, :]  # [B, 8, P, 3]
    steps = borders - views[..., -2, :] if side > 1 else np.zeros_like(borders)
    mean = steps.mean(2, keepdims=True)
    centred = steps - mean
    covariance = np.einsum("bspk,bspl->bskl", centred, centred) / side + _NOISE * np.eye(3, dtype=np.float32)
    inverse = np.linalg.inv(covariance)[:, :_ROTATIONS]
    expected = (borders + mean)[:, :_ROTATIONS]
    weighted = expected @ inverse
    constant = (weighted * expected).sum((2, 3)).reshape(-1, 1)
    own = np.concatenate([inverse.reshape(count, _ROTATIONS, 9), -2 * weighted.reshape(count, _ROTATIONS, -1)], axis=2)
    coloured = np.stack(
        [sign * borders[..., order] for sign in (1, -1) for order in ORDERS.astype(np.intp)], axis=2
    )  # [B, 8, 12, P, 3]
    moments = np.einsum("bscpk,bscpl->bsckl", coloured, coloured, optimize=True)
    other = np.concatenate(
        [moments.reshape(count, SYMMETRIES, _COLOURS, 9), coloured.reshape(count, SYMMETRIES, _COLOURS, -1)], axis=3
    )
    directed = own.reshape(count * _ROTATIONS, -1) @ other.reshape(count * SYMMETRIES * _COLOURS, -1).T + constant
    shape = (count, _ROTATIONS, count, SYMMETRIES, _COLOURS)
    total = directed.reshape(shape).astype(np.float32)
    total = np.maximum(total + _seen_from_the_other_block(total), 1e-3)
    total[np.arange(count), :, np.arange(count)] = np.inf
    if count == 1:
        return total
    by_block = total.min((3, 4))  # [B, 4, B]
    second = np.partition(by_block, min(1, count - 2), axis=2)[:, :, min(1, count - 2)]  # [B, 4]
    other_border = np.empty((SYMMETRIES, count), np.float32)
    for symmetry in range(SYMMETRIES):
        other_border[symmetry] = second[:, _as_rotation(symmetry)]
    total /= np.minimum(second[:, :, None, None], other_border.T[None, None])[..., None]
    return total


def _as_rotation(symmetry: int) -> int:
    """The rotation that shows the same right border, maybe upside down."""
    return int(symmetry if symmetry < MIRROR else SYMMETRY_PRODUCTS[symmetry, _UPSIDE_DOWN_MIRROR])


def _seen_from_the_other_block(directed: Floats) -> Floats:
    """[j, s, i, r, c^-1] at the place of [i, r, j, s, c]; pairs of mirrored borders are turned upside down."""
    out = np.empty_like(directed)
    for r, s in itertools.product(range(_ROTATIONS), range(SYMMETRIES)):
        own = r if s < MIRROR else SYMMETRY_PRODUCTS[r, _UPSIDE_DOWN_MIRROR]
        out[:, r, :, s] = directed[:, _as_rotation(s), :, own].swapaxes(0, 1)[:, :, _INVERSE_COLOURS]
    return out


def _join_components(misfits: Floats, rows: int, columns: int) -> _Component:
    """The largest component after blocks were joined at the borders that fit best."""
    count = len(misfits)
    single, origin = np.zeros(1, np.intp), np.zeros((2, 2), np.intp)
    components = [_Component(np.array([i]), origin[:1], single, single, origin) for i in range(count)]
    component_of = list(range(count))
    row_of = [0] * count  # of each block in its component
    for i, r, j, s, c in _best_borders(misfits):
        first, second = component_of[i], component_of[j]
        if first == second:
            continue
        a, b = components[first], components[second]
        at = row_of[i]
        place, symmetry, colour = _neighbour(a.places[at], a.symmetries[at], a.colours[at], r, s, c)
        at = row_of[j]
        turn = SYMMETRY_PRODUCTS[INVERSE_SYMMETRIES[b.symmetries[at]], symmetry]
        recolour = _COLOUR_PRODUCTS[_INVERSE_COLOURS[b.colours[at]], colour]
        # The corners of both components show cheaply whether they fit together.
        corners = np.concatenate([a.corners, (b.corners - b.places[at]) @ _LINEAR_PARTS[turn].T + place])
        low, high = corners.min(0), corners.max(0)
        if not _fits(high - low + 1, rows, columns):
            continue
        moved = (b.places - b.places[at]) @ _LINEAR_PARTS[turn].T + place
        places = np.concatenate([a.places, moved])
        if len(set(map(tuple, places.tolist()))) < len(places):
            continue
        joined = _Component(
            np.concatenate([a.members, b.members]),
            places,
            np.concatenate([a.symmetries, SYMMETRY_PRODUCTS[b.symmetries, turn]]),
            np.concatenate([a.colours, _COLOUR_PRODUCTS[b.colours, recolour]]),
            np.stack([low, high]),
        )
        components[first] = joined
        for offset, member in enumerate(b.members.tolist(), len(a.members)):
            component_of[member], row_of[member] = first, offset
        if len(joined.members) == count:
            break
    return max((components[k] for k in set(component_of)), key=lambda component: len(component.members))


def _best_borders(misfits: Floats) -> list[list[int]]:
    """[i, r, j, s, c] of the best poses of the best blocks beside each border, the most certain first."""
    count = len(misfits)
    flat = misfits.reshape(count * _ROTATIONS, count, SYMMETRIES * _COLOURS)
    by_block = flat.min(2)
    nearest = np.argsort(by_block, axis=1, kind="stable")[:, :_CANDIDATES]
    border = np.repeat(np.arange(len(flat)), nearest.shape[1])
    block = nearest.ravel()
    value = by_block[border, block]
    order = np.argsort(value, kind="stable")
    order = order[np.isfinite(value[order])]
    border, block = border[order], block[order]
    symmetry, colour = np.divmod(flat[border, block].argmin(1), _COLOURS)
    return np.stack([border // _ROTATIONS, border % _ROTATIONS, block, symmetry, colour], axis=1).tolist()


def _neighbour(place: Integers, symmetry: int, colour: int, r: int, s: int, c: int) -> tuple[Integers, int, int]:
    """The place, symmetry and colours of the block that shows border s in colours c beside border r of a block."""
    turn = SYMMETRY_PRODUCTS[INVERSE_SYMMETRIES[r], symmetry]
    beside = SYMMETRY_PRODUCTS[SYMMETRY_PRODUCTS[s, MIRROR], turn]
    return place + _LINEAR_PARTS[turn] @ _RIGHT, int(beside), int(_COLOUR_PRODUCTS[c, colour])


def _fits(size: Integers, rows: int, columns: int) -> bool:
    height, width = size
    return bool((height <= rows and width <= columns) or (height <= columns and width <= rows))


def _grow(misfits: Floats, start: _Component, rows: int, columns: int) -> _Component:
    """Add all other blocks to a component, the one with the smallest mean misfit at its place first."""
    count = len(misfits)
    at = {(int(y), int(x)): row for row, (y, x) in enumerate(start.places)}
    blocks, symmetries = start.members.tolist(), start.symmetries.tolist()
    colours, places = start.colours.tolist(), [tuple(place) for place in start.places.tolist()]
    unused = np.ones(count, np.bool_)
    unused[blocks] = False
    capped = np.minimum(misfits, 4)  # a wrong neighbour must not outweigh right ones
    fits: dict[tuple[int, int], tuple[Floats, float, int]] = {}  # misfits [B, 8, 12], the least, and where it is

    def rank(place: tuple[int, int]) -> tuple[Floats, float, int]:
        found = []
        for direction, (dy, dx) in enumerate(_STEPS):
            row = at.get((place[0] - dy, place[1] - dx))
            if row is not None:
                r = _FACING[symmetries[row], direction]
                turn = SYMMETRY_PRODUCTS[INVERSE_SYMMETRIES[r], symmetries[row]]
                # By the symmetry and colours that the new block would have in the component.
                own = SYMMETRY_PRODUCTS[SYMMETRY_PRODUCTS[np.arange(SYMMETRIES), INVERSE_SYMMETRIES[turn]], MIRROR]
                own_colours = _COLOUR_PRODUCTS[np.arange(_COLOURS), _INVERSE_COLOURS[colours[row]]]
                found.append(capped[blocks[row], r][:, own][:, :, own_colours])
        mean = np.mean(found, axis=0)
        mean -= 0.1 * len(found)  # several neighbours that agree are more certain than one
        return mean, *best_of(mean)

    def best_of(values: Floats) -> tuple[float, int]:
        by_block = np.where(unused, values.min((1, 2)), np.inf)
        block = int(by_block.argmin())
        return float(by_block[block]), block

    def free_places(place: tuple[int, int]) -> list[tuple[int, int]]:
        around = [(place[0] + dy, place[1] + dx) for dy, dx in _STEPS]
        return [each for each in around if each not in at]

    for place in places:
        for free in free_places(place):
            fits.setdefault(free, rank(free))
    while unused.any():
        low, high = np.min(places, axis=0), np.max(places, axis=0)
        allowed = [
            place for place in fits if _fits(np.maximum(high, place) - np.minimum(low, place) + 1, rows, columns)
        ]
        place = min(allowed, key=lambda each: fits[each][1])
        values, _, block = fits.pop(place)
        symmetry, colour = divmod(int(values[block].argmin()), _COLOURS)
        at[place] = len(blocks)
        blocks.append(block)
        symmetries.append(symmetry)
        colours.append(colour)
        places.append(place)
        unused[block] = False
        for free in free_places(place):
            fits[free] = rank(free)
        for other, (other_values, _, other_block) in fits.items():
            if other_block == block:
                fits[other] = (other_values, *best_of(other_values))
    corners = np.array([np.min(places, axis=0), np.max(places, axis=0)])
    return _Component(np.array(blocks), np.array(places), np.array(symmetries), np.array(colours), corners)
