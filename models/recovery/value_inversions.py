"""Which values of a block are inverted in all blocks, from the sign of their correlations [M]."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


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
