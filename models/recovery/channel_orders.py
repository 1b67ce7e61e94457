"""The channel orders of neighbouring blocks or pixels relative to each other, from the continuity of their colours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unveil.models.schemes.block_inverse import Integers
from unveil.models.schemes.pixelwise import ORDERS

Floats = npt.NDArray[np.float32]

_MAX_SWEEPS = 20
_ORDERS = ORDERS.astype(np.intp)


def recover_channel_orders(chroma: Floats, side: int) -> Integers:
    """The channel order of each block [R, C] relative to the middle one, from chroma [N, R * side, C * side, 3].

    Starts with the most certain neighbours; then each block in turn takes the order that fits its neighbours best.
    """
    count, height, width, _ = chroma.shape
    rows, columns = height // side, width // side
    split = chroma.reshape(count, rows, side, columns, side, 3)
    across = np.einsum("nrpck,nrpcl->rckl", split[:, :, :, :-1, -1], split[:, :, :, 1:, 0], optimize=True)
    down = np.einsum("nrcpk,nrcpl->rckl", split[:, :-1, -1], split[:, 1:, 0], optimize=True)
    pair_fit = {
        (dy, dx): sum(products[..., _ORDERS[:, None, k], _ORDERS[None, :, k]] for k in range(3))
        for (dy, dx), products in (((0, 1), across), ((1, 0), down))
    }  # [R, C, 6, 6]: the block in its first order beside the next block in its second

    def neighbours(y: int, x: int) -> list[tuple[int, int, npt.NDArray[np.float64]]]:
        """Places beside (y, x), with the fit [own order, order of the neighbour]."""
        found = []
        for (dy, dx), fit in pair_fit.items():
            if y + dy < rows and x + dx < columns:
                found.append((y + dy, x + dx, fit[y, x]))
            if y >= dy and x >= dx:
                found.append((y - dy, x - dx, fit[y - dy, x - dx].T))
        return found

    orders = np.full((rows, columns), -1, np.intp)
    fits = np.zeros((rows, columns, 6))
    fits[rows // 2, columns // 2, 0] = np.inf
    for _ in range(rows * columns):
        ranked = np.sort(fits, axis=-1)
        lead = np.where(orders < 0, ranked[..., -1] - ranked[..., -2], -np.inf)
        y, x = np.unravel_index(int(lead.argmax()), lead.shape)
        orders[y, x] = fits[y, x].argmax()
        for ny, nx, fit in neighbours(int(y), int(x)):
            fits[ny, nx] += fit[orders[y, x]]
    for _ in range(_MAX_SWEEPS):
        before = orders.copy()
        for y, x in np.ndindex(rows, columns):
            fit_of_each = np.sum([fit[:, orders[ny, nx]] for ny, nx, fit in neighbours(y, x)], axis=0)
            orders[y, x] = fit_of_each.argmax() if rows * columns > 1 else 0
        if np.array_equal(orders, before):
            break
    return orders
