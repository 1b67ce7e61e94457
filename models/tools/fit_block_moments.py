"""Compute the public moments of blocks from photographs in STL-10's layout:

    python -m unveil.models.tools.fit_block_moments --data DIR

DIR contains train_X.bin. Writes models/weights/block_moments.npz, which holds matrices and no image, in two minutes on
one core.
"""

from __future__ import annotations

import numpy as np

from unveil.models.core.images import Images
from unveil.models.recovery.block_moments import (
    BUNDLED_MOMENTS,
    SIDES,
    Doubles,
    block_moments,
    frequency_basis,
    to_grid,
)
from unveil.models.tools import fitting

_NEGLIGIBLE = 1e-3  # of the geometric mean of the variances: smaller moments are stored as 0


def fit_moments(images: Images, side: int) -> Doubles:
    """Moments [3, D, D] in the frequency basis, of images uint8 [N, H, W, 3] and of their mirror images.

    Mirrored images make half of the moments vanish, which the file does not have to store.
    """
    height, width = (length // side * side for length in images.shape[1:3])
    cropped, basis = images[:, :height, :width], frequency_basis(side)
    flips = [cropped[:, ::y, ::x] for y in (1, -1) for x in (1, -1)]
    moments = np.mean([block_moments(to_grid(flipped, side)) for flipped in flips], axis=0)
    moments = basis @ moments @ basis.T
    scale = np.sqrt(np.diag(moments[0]))
    return np.where(np.abs(moments) < _NEGLIGIBLE * scale[:, None] * scale, 0, moments)


def main() -> None:
    photographs, out = fitting.read_arguments(__doc__, BUNDLED_MOMENTS)
    fitting.save_half(out, {f"side{side}": fit_moments(photographs[::3], side) for side in SIDES})


if __name__ == "__main__":
    main()
