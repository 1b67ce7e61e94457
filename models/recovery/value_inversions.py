"""Which values of a block are inverted in all blocks, from their correlations or from neighbouring pixels [M]."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_STEP = 8.0  # grey levels: larger differences count as edges and weigh less
_MAX_BLOCKS = 2_000  # compared; more settle no further sign
_SWEEPS = 10


def find_inversions(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Blocks uint8 [N, D] -> whether each value is inverted, bool [D], up to one inversion of all.

    The values of a block share its brightness, the leading eigenvector of their correlations.
    """
    centred = values.astype(np.float32)
    centred -= centred.mean(0)
    centred /= np.maximum(centred.std(0), 1)
    correlations = (centred.T @ centred).astype(np.float64)
    leading = np.linalg.eigh(correlations)[1][:, -1]
    is_inverted: npt.NDArray[np.bool_] = leading < 0
    return is_inverted


def find_inversions_in_place(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Blocks uint8 [N, P, P] whose values did not move -> whether each is inverted, bool [P, P], up to one inversion.

    Neighbouring pixels are alike unless one of them is inverted. The most certain neighbours decide first, as in a
    spanning tree; then each pixel in turn follows all of its neighbours.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

    sampled = values[np.linspace(0, len(values) - 1, min(_MAX_BLOCKS, len(values))).astype(int)]
    centred = sampled.reshape(len(sampled), -1).astype(np.float32) - np.float32(127.5)
    index = np.arange(centred.shape[1]).reshape(values.shape[1:])
    first = np.concatenate([index[:, :-1].ravel(), index[:-1].ravel()])
    second = np.concatenate([index[:, 1:].ravel(), index[1:].ravel()])
    a, b = centred[:, first], centred[:, second]
    alike = (np.log1p(((a + b) / np.float32(_STEP)) ** 2) - np.log1p(((a - b) / np.float32(_STEP)) ** 2)).sum(0)
    shape = (index.size, index.size)
    fit = coo_array((alike, (first, second)), shape=shape).tocsr()
    fit = fit + fit.T
    tree = minimum_spanning_tree(coo_array((1 / (1 + np.abs(alike)), (first, second)), shape=shape))
    order, parents = breadth_first_order(tree, 0, directed=False)
    signs = np.ones(index.size)
    for node in order[1:].tolist():
        signs[node] = signs[parents[node]] * (-1 if fit[node, parents[node]] < 0 else 1)
    for _ in range(_SWEEPS):
        before = signs.copy()
        for node in range(index.size):
            neighbours = slice(fit.indptr[node], fit.indptr[node + 1])
            signs[node] = -1 if fit.data[neighbours] @ signs[fit.indices[neighbours]] < 0 else 1
        if (signs == before).all():
            break
    return signs.reshape(index.shape) < 0
