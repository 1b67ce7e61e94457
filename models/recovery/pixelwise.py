"""Key recovery for pixel-wise encryption under one key, from ciphertexts alone [M].

At every pixel the key is one of 48 elements: a channel order and three signs. Neighbouring pixels of natural images are
similar, and much more so in colour differences than in brightness. Neighbours are therefore aligned by the likelihood

    -(y_p - y_q)' P (y_p - y_q) / 2  summed over ciphertexts,  P = 1 - BETA * ones,

where y = cipher - 127.5 after a candidate is undone. Expanded, it needs only 3x3 correlation matrices of pixel pairs,
which score all 48 candidates at once. Three steps, each vectorised over the image:

1. grow: in rings around the centre, fit each pixel to its aligned neighbours within two pixels;
2. join: growing leaves regions that are consistent inside and not with each other. Join regions along the border with
   the largest evidence margin, all at once (Boruvka's algorithm), on the 3x3 matrices alone;
3. refine: fit every pixel again to all its neighbours.

Steps 2 and 3 run up to three times, with each ciphertext weighted by its local smoothness. One element for the whole
image remains undetermined, in practice one of 12 (the channels of natural images are correlated, so their signs agree);
`unveil.models.recovery.color_ambiguity` determines it.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d

from unveil.models.core.images import Images, check_images
from unveil.models.core.run_context import OnStep
from unveil.models.schemes.pixelwise import ORDERS, PixelwiseKey

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]

# Of the residual against the mean of the neighbours, brightness has 50 to 75 times the variance of a colour difference
# on natural96 and STL-10, so 1 - 3 * BETA = 1/60.
BETA = 0.328
NOISE_FLOOR = 4.0  # variance of a colour difference below which all ciphertexts weigh the same
GROW_WEIGHTS = np.outer([1, 2, 3, 2, 1], [1, 2, 3, 2, 1]).astype(np.float32)
REFINE_WEIGHTS = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32)
# Pairs of pixels whose correlation is border evidence: (rows, columns, weight). Pairs further apart reduce accuracy
# (3 ciphertexts: 0.83 of the pixels with these, 0.75 with pairs two pixels apart as well).
NEIGHBOUR_PAIRS = ((0, 1, 1.0), (1, 0, 1.0), (1, 1, 0.6), (1, -1, 0.6))
_MAX_VALUES = 2**24  # pixels times ciphertexts that are used; more ciphertexts do not help
MAX_PIXELS = 2**22  # of an image: a pixel takes up to 0.9 kB of memory
_BORDERS_PER_BATCH = 2**20  # bounds memory

# Candidate 8 * order + signs: aligned channel c is sign c times cipher channel ORDERS[order][c]; bit 2 - c of signs.
_ORDERS = ORDERS.astype(np.intp)
_SIGNS = np.array(list(itertools.product((1, -1), repeat=3)), np.float32)
CANDIDATE_ORDERS = np.repeat(_ORDERS, 8, axis=0)  # [48, 3]
CANDIDATE_SIGNS = np.tile(_SIGNS, (6, 1))  # [48, 3]
_OFF_DIAGONAL = ((0, 1), (0, 2), (1, 2))


def _order_codes(orders: npt.NDArray[Any]) -> Ints:
    """Permutations [..., 3] -> codes 0..5 (lexicographic)."""
    return (2 * orders[..., 0] + (orders[..., 1] > orders[..., 2])).astype(np.intp)


def _candidate_weights() -> Floats:
    """[48, 12]: weights of the cross moments (9) and the pixel's own off-diagonal moments (3) in the likelihoods."""
    precision = np.eye(3) - BETA
    weights = np.zeros((48, 12), np.float32)
    for i, (order, sign) in enumerate(zip(CANDIDATE_ORDERS, CANDIDATE_SIGNS, strict=True)):
        for a, b in itertools.product(range(3), repeat=2):
            weights[i, 3 * order[a] + b] += precision[a, b] * sign[a]
        for a, b in _OFF_DIAGONAL:
            own = _OFF_DIAGONAL.index((min(order[a], order[b]), max(order[a], order[b])))
            weights[i, 9 + own] -= precision[a, b] * sign[a] * sign[b]
    return weights


_WEIGHTS = _candidate_weights()

# The 12 elements that relabel a whole region: code 6 * negative + order; y'_c = +-y[ORDERS[order][c]].
_INVERSE = _order_codes(np.argsort(_ORDERS, axis=1))
_ELEMENT_PRODUCT = _order_codes(_ORDERS[np.arange(6)[:, None, None], _ORDERS[None]])  # [first, second] -> composed
_ELEMENT_SIGNS = np.repeat(np.array([1, -1], np.float32), 6)
_FIRST_MOMENT_INDEX = np.array([[3 * _ORDERS[e % 6][k] + j for k in range(3) for j in range(3)] for e in range(12)])
_SECOND_MOMENT_INDEX = np.array([[3 * k + _ORDERS[e % 6][j] for k in range(3) for j in range(3)] for e in range(12)])
_ELEMENT_WEIGHTS = np.array(
    [[s * ((_ORDERS[o][c] == k) - BETA) for k in range(3) for c in range(3)] for s in (1, -1) for o in range(6)],
    np.float32,
)  # [12, 9]: evidence for each element from the 3x3 moments of a pair


def recover_relative_key(ciphertexts: Images, on_step: OnStep = lambda: None) -> PixelwiseKey:
    """Ciphertexts uint8 [N, H, W, 3] under one key -> the key up to one of 48 elements for the whole image.

    About 8 photographs determine every pixel; with fewer, regions are inconsistent with each other. on_step is called
    every few seconds at most. Raises ValueError for another array, for no ciphertexts, and for images of more than
    MAX_PIXELS.
    """
    check_images(ciphertexts, "ciphertexts")
    if not len(ciphertexts):
        raise ValueError("ciphertexts must contain at least one image; got none")
    height, width = ciphertexts.shape[1:3]
    if height * width > MAX_PIXELS:
        raise ValueError(
            f"ciphertexts must have at most {MAX_PIXELS:,} pixels each; these are {width}x{height}: crop all to "
            "the same part"
        )
    values = _center(ciphertexts)
    if height * width == 1:
        return candidates_to_key(_fit(values, np.zeros_like(values), _own_moments(values)))
    candidates = _grow(values, on_step)
    candidates = _refine(values, candidates, 3, on_step)
    for _ in range(3):
        previous = candidates
        weighted = values * _smoothness(values, candidates)[:, :, None]
        on_step()
        candidates = _relabel(candidates, _join_regions(_align_values(weighted, candidates), on_step))
        candidates = _refine(weighted, candidates, 5, on_step)
        if (candidates == previous).all():  # a fixed point
            break
    return candidates_to_key(_compose(candidates, _ORDERS[0], _channel_signs(_align_values(values, candidates))))


def recover_among_candidates(
    ciphertexts: Images, possible: npt.NDArray[np.bool_], max_iterations: int = 20, on_step: OnStep = lambda: None
) -> Ints:
    """The candidates [H, W] that fit the surrounding pixels best among the possible ones, bool [H, W, 48].

    Starts from the key of the ciphertexts alone, composed with the element that most pixels allow.
    """
    free = key_to_candidates(recover_relative_key(ciphertexts, on_step))
    composed = np.stack([_compose(free, o, s) for o, s in zip(CANDIDATE_ORDERS, CANDIDATE_SIGNS, strict=True)], -1)
    allowed = np.take_along_axis(possible, composed, -1)
    best = allowed.sum((0, 1)).argmax()
    candidates = np.where(allowed[..., best], composed[..., best], possible.argmax(-1))
    values = _center(ciphertexts)
    own_moments = _own_moments(values)
    for _ in range(max_iterations):
        on_step()
        fitted = _fit(values, _neighbours(_align_values(values, candidates)), own_moments, possible)
        if (fitted == candidates).all():
            break
        candidates = fitted
    return candidates


def candidates_to_key(candidates: Ints) -> PixelwiseKey:
    """The key that candidates [H, W] in 0..47 undo."""
    return PixelwiseKey(reversed=CANDIDATE_SIGNS[candidates] < 0, orders=_INVERSE[candidates // 8].astype(np.uint8))


def key_to_candidates(key: PixelwiseKey) -> Ints:
    """The inverse of `candidates_to_key`."""
    signs: Ints = (key.reversed * np.array([4, 2, 1])).sum(-1)
    return 8 * _INVERSE[key.orders] + signs


def transform_key(key: PixelwiseKey, order: int, *, negative: bool = False) -> PixelwiseKey:
    """The key that decrypts to the images of `key` with channel c from ORDERS[order][c], inverted if `negative`."""
    sign = np.full(3, -1 if negative else 1, np.float32)
    return candidates_to_key(_compose(key_to_candidates(key), _ORDERS[order], sign))


def _compose(candidates: Ints, orders: Ints, signs: Floats) -> Ints:
    """Compose `candidates` with channel c = signs[c] times channel orders[c]; broadcasts over pixels."""
    orders = np.broadcast_to(orders, (*candidates.shape, 3))
    order = np.take_along_axis(CANDIDATE_ORDERS[candidates], orders, -1)
    sign = np.take_along_axis(CANDIDATE_SIGNS[candidates], orders, -1) * signs
    return 8 * _order_codes(order) + ((sign < 0) * np.array([4, 2, 1])).sum(-1)


def _align_values(values: Floats, candidates: Ints) -> Floats:
    """Undo candidates [...] on values [..., 3, N]."""
    ordered = np.take_along_axis(values, CANDIDATE_ORDERS[candidates][..., None], -2)
    ordered *= CANDIDATE_SIGNS[candidates][..., None]
    return ordered


def _center(ciphertexts: Images) -> Floats:
    """[N, H, W, 3] -> float32 [H, W, 3, N] centred on zero, of at most _MAX_VALUES."""
    subset = ciphertexts[: max(1, _MAX_VALUES // (ciphertexts.shape[1] * ciphertexts.shape[2]))]
    return np.ascontiguousarray(subset.transpose(1, 2, 3, 0)).astype(np.float32) - np.float32(127.5)


def _own_moments(values: Floats) -> Floats:
    return np.stack([np.einsum("...n,...n->...", values[..., a, :], values[..., b, :]) for a, b in _OFF_DIAGONAL], -1)


def _fit(values: Floats, reference: Floats, own_moments: Floats, possible: npt.NDArray[np.bool_] | None = None) -> Ints:
    """The most likely candidate [...] for values [..., 3, N] next to aligned values of the same shape."""
    cross = values @ reference.swapaxes(-1, -2)
    moments = np.concatenate([cross.reshape(*cross.shape[:-2], 9), own_moments], -1)
    likelihood = moments @ _WEIGHTS.T
    if possible is not None:
        likelihood[~possible] = -np.inf
    best: Ints = likelihood.argmax(-1)
    return best


def _grow(values: Floats, on_step: OnStep) -> Ints:
    """Fit every pixel to the rings inside its own, ring by ring around the centre -> candidates [H, W]."""
    height, width = values.shape[:2]
    radius = len(GROW_WEIGHTS) // 2
    rows, columns = np.mgrid[:height, :width]
    ring_index = np.maximum(abs(rows - height // 2), abs(columns - width // 2)).ravel()
    by_ring = np.split(np.argsort(ring_index, kind="stable"), np.cumsum(np.bincount(ring_index))[:-1])
    own_moments = _own_moments(values)
    aligned = np.zeros((height + 2 * radius, width + 2 * radius, *values.shape[2:]), np.float32)
    is_aligned = np.zeros(aligned.shape[:2], np.bool_)
    candidates = np.zeros((height, width), np.intp)
    for pixels in by_ring:
        on_step()
        y, x = np.divmod(pixels, width)
        reference = np.zeros((len(pixels), *values.shape[2:]), np.float32)
        total = np.zeros(len(pixels), np.float32)
        for dy, dx in np.ndindex(GROW_WEIGHTS.shape):
            neighbours = np.flatnonzero(is_aligned[y + dy, x + dx])
            if len(neighbours):
                reference[neighbours] += GROW_WEIGHTS[dy, dx] * aligned[y[neighbours] + dy, x[neighbours] + dx]
                total[neighbours] += GROW_WEIGHTS[dy, dx]
        reference /= np.maximum(total, 1)[:, None, None]  # the centre has none and fits its own moments
        pixel_values = values[y, x]
        fitted = _fit(pixel_values, reference, own_moments[y, x])
        candidates[y, x] = fitted
        aligned[y + radius, x + radius] = _align_values(pixel_values, fitted)
        is_aligned[y + radius, x + radius] = True
    return candidates


def _neighbours(aligned: Floats) -> Floats:
    """The weighted mean of the eight neighbours, [H, W, 3, N]."""
    padded = np.pad(aligned, ((1, 1), (1, 1), (0, 0), (0, 0)))
    inside = np.pad(np.ones(aligned.shape[:2], np.float32), 1)

    def add(a: Floats) -> Floats:
        for _ in range(2):  # separable kernel 1 2 1: down, then across
            down = a[:-2] + a[2:]
            down += 2 * a[1:-1]
            a = down.swapaxes(0, 1)
        return a

    total = add(padded) - REFINE_WEIGHTS[1, 1] * aligned
    return total / np.maximum(add(inside) - REFINE_WEIGHTS[1, 1], 1)[:, :, None, None]  # a 1x1 image has none


def _refine(values: Floats, candidates: Ints, max_iterations: int, on_step: OnStep) -> Ints:
    """Fit every pixel to all its neighbours until nothing changes or `max_iterations` are done."""
    own_moments = _own_moments(values)
    for _ in range(max_iterations):
        on_step()
        fitted = _fit(values, _neighbours(_align_values(values, candidates)), own_moments)
        if (fitted == candidates).all():
            break
        candidates = fitted
    return candidates


def _channel_signs(aligned: Floats) -> Floats:
    """One sign for each channel of the whole image, float [3], that makes the channels correlate at edges.

    In a region of one colour such as orange, red and blue lie on different sides of mid-grey, and a pixel alone looks
    more natural with one of them inverted; at edges all channels still change in the same direction.
    """
    steps = [np.diff(aligned, axis=axis).transpose(2, 0, 1, 3).reshape(3, -1) for axis in (0, 1)]
    scaled = np.concatenate([step / np.sqrt(20 + (step**2).mean(0)) for step in steps], axis=1)
    step_products = scaled @ scaled.T
    four = _SIGNS[:4]
    best: Floats = four[np.einsum("ea,eb,ab->e", four, four, step_products).argmax()]
    return best


def _smoothness(values: Floats, candidates: Ints) -> Floats:
    """The weight [H, W, N] of each ciphertext at each pixel: the root of its precision, since pairs multiply two."""
    aligned = _align_values(values, candidates)
    residual = aligned - _neighbours(aligned)
    residual -= residual.mean(2, keepdims=True)
    noise = np.einsum("hwcn,hwcn->hwn", residual, residual) / 2
    for axis in (0, 1):
        noise = uniform_filter1d(noise, 5, axis=axis, mode="nearest")
    return (NOISE_FLOOR + noise) ** -0.5


def _join_regions(aligned: Floats, on_step: OnStep) -> Ints:
    """One of the 12 elements for every pixel, [H, W], that makes the regions consistent with each other."""
    height, width = aligned.shape[:2]
    first, second, moments = _pairs(aligned)
    element = np.zeros(height * width, np.intp)  # of every pixel
    region = np.arange(height * width)  # of every pixel
    count = height * width
    while len(first):
        on_step()
        best, margin = _best_elements(moments)
        # Every region picks its border of the largest margin, by rank: ties of margins could form longer cycles.
        by_rank = np.argsort(margin, kind="stable")
        rank = np.empty(len(best), np.intp)
        rank[by_rank] = np.arange(len(best))
        highest = np.full(count, -1)
        np.maximum.at(highest, first, rank)
        np.maximum.at(highest, second, rank)
        regions = np.arange(count)
        pick = by_rank[highest]
        forward = first[pick] == regions
        target = np.where(forward, second[pick], first[pick])
        step = np.where(forward, best[pick], _invert_element(best[pick]))
        roots = (target[target] == regions) & (regions < target)
        target[roots], step[roots] = regions[roots], 0
        while True:  # pointer doubling: follow the picks to the roots
            beyond = target[target]
            if (beyond == target).all():
                break
            step, target = _compose_elements(step, step[target]), beyond
        element, region = _compose_elements(element, step[region]), target[region]
        present = np.zeros(count, np.intp)
        present[target] = 1
        number = np.cumsum(present) - 1
        region, count = number[region], int(present.sum())
        outer = target[first] != target[second]
        first, second, moments = first[outer], second[outer], moments[outer]
        moments = _relabel_moments(moments, step[first], step[second])
        first, second, moments = _merge(number[target[first]], number[target[second]], moments, count)
    return element.reshape(height, width)


def _best_elements(moments: Floats) -> tuple[Ints, Floats]:
    """For borders [borders, 9]: the element with the most evidence, and its margin over the second."""
    best, margin = np.empty(len(moments), np.intp), np.empty(len(moments), np.float32)
    for start in range(0, len(moments), _BORDERS_PER_BATCH):
        part = slice(start, start + _BORDERS_PER_BATCH)
        evidence = moments[part] @ _ELEMENT_WEIGHTS.T
        best[part] = evidence.argmax(1)
        evidence.partition(10, axis=1)
        margin[part] = evidence[:, 11] - evidence[:, 10]
    return best, margin


def _pairs(aligned: Floats) -> tuple[Ints, Ints, Floats]:
    """Neighbouring pixels (flat indices) and their 3x3 cross moments [pairs, 9]."""
    height, width = aligned.shape[:2]
    index = np.arange(height * width).reshape(height, width)
    first, second, moments = [], [], []
    for dy, dx, weight in NEIGHBOUR_PAIRS:
        if dy >= height or abs(dx) >= width:
            continue
        a = slice(0, height - dy), slice(max(0, -dx), width - max(0, dx))
        b = slice(dy, height), slice(max(0, dx), width + min(0, dx))
        first.append(index[a].ravel())
        second.append(index[b].ravel())
        moments.append(weight * (aligned[a] @ aligned[b].swapaxes(-1, -2)).reshape(-1, 9))
    return np.concatenate(first), np.concatenate(second), np.concatenate(moments)


def _merge(first: Ints, second: Ints, moments: Floats, count: int) -> tuple[Ints, Ints, Floats]:
    """Sum the moments of all borders between the same two regions."""
    if not len(first):
        return first, second, moments
    swap = first > second
    moments[swap] = moments[swap].reshape(-1, 3, 3).swapaxes(1, 2).reshape(-1, 9)
    key = np.where(swap, second * count + first, first * count + second)
    order = np.argsort(key, kind="stable")
    key = key[order]
    starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
    return key[starts] // count, key[starts] % count, np.add.reduceat(moments[order], starts, axis=0)


def _relabel_moments(moments: Floats, first: Ints, second: Ints) -> Floats:
    moments = np.take_along_axis(moments, _FIRST_MOMENT_INDEX[first], 1)
    moments = np.take_along_axis(moments, _SECOND_MOMENT_INDEX[second], 1)
    return moments * (_ELEMENT_SIGNS[first] * _ELEMENT_SIGNS[second])[:, None]


def _compose_elements(a: Ints, b: Ints) -> Ints:
    """The composition of element a, then element b."""
    result: Ints = _ELEMENT_PRODUCT[a % 6, b % 6] + 6 * ((a // 6) ^ (b // 6))
    return result


def _invert_element(a: Ints) -> Ints:
    result: Ints = _INVERSE[a % 6] + 6 * (a // 6)
    return result


def _relabel(candidates: Ints, elements: Ints) -> Ints:
    return _compose(candidates, _ORDERS[elements % 6], _ELEMENT_SIGNS[elements][..., None])
