"""The key of EtC from ciphertexts alone [M]: layout, turns and inversions from grey borders, then channel orders.

The reading is exact up to one turn, one inversion and one channel order of the whole image, which public statistics
settle (`unveil.models.recovery.orientation`); nothing distinguishes an image from its mirror image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images
from unveil.models.recovery.block_layout import TURNS, Floats, Integers, recover_layout, turn_blocks
from unveil.models.schemes.etc import BLOCK, INVERSE_TURNS, EtcKey, from_blocks, to_blocks
from unveil.models.schemes.pixelwise import INVERSE_ORDERS, ORDERS

_MAX_SWEEPS = 20
_ORDERS = ORDERS.astype(np.intp)
_ORDER_OF = {tuple(order): number for number, order in enumerate(ORDERS.tolist())}


def _turn_products() -> Integers:
    """[8, 8]: the code of the second turn after the first."""
    square = np.arange(4).reshape(2, 2, 1)
    seen = {turn_blocks(square, code).tobytes(): code for code in range(TURNS)}
    return np.array(
        [[seen[turn_blocks(turn_blocks(square, a), b).tobytes()] for b in range(TURNS)] for a in range(TURNS)]
    )


_TURN_PRODUCTS = _turn_products()
_ORDER_PRODUCTS = np.array([[_ORDER_OF[tuple(a[b])] for b in _ORDERS.tolist()] for a in _ORDERS])  # a, then b


@dataclass(frozen=True)
class EtcReading:
    """How the plain image is read from the ciphertext; every map is indexed by the place in the plain image.

    blocks: [R, C] index of the scrambled block; turns: [R, C] the code that brings it upright; negative: bool [R, C];
    orders: [R, C], plain channel c is channel ORDERS[orders][c] of the block; fit: as in `BlockLayout`.
    """

    blocks: Integers
    turns: Integers
    negative: npt.NDArray[np.bool_]
    orders: Integers
    fit: float

    def decrypt(self, images: Images) -> Images:
        """Read ciphertexts uint8 [N, H, W, 3] -> [N, R * 8, C * 8, 3]."""
        blocks = _upright(to_blocks(images), self.blocks.ravel(), self.turns.ravel())
        blocks = blocks ^ (self.negative.ravel() * np.uint8(255))[:, None, None, None]
        blocks = np.take_along_axis(blocks, _ORDERS[self.orders.ravel()][None, :, None, None, :], axis=4)
        rows, columns = self.blocks.shape
        return from_blocks(blocks, (len(images), rows * BLOCK, columns * BLOCK, 3))

    def transform(self, turn: int, order: int, *, negative: bool) -> EtcReading:
        """The reading whose images are turned by `turn`, take channels by ORDERS[order] and are inverted or not."""

        def turned(values: Integers) -> Integers:
            return np.ascontiguousarray(turn_blocks(values[..., None], turn)[..., 0])

        return EtcReading(
            turned(self.blocks),
            _TURN_PRODUCTS[turned(self.turns), turn],
            turned(self.negative.astype(np.intp)).astype(np.bool_) ^ negative,
            _ORDER_PRODUCTS[turned(self.orders), order],
            self.fit,
        )

    def to_key(self) -> EtcKey:
        """The key under which `Etc.decrypt` reads the same images."""
        inverse = [_ORDER_OF[tuple(order)] for order in INVERSE_ORDERS.tolist()]
        return EtcKey(
            INVERSE_TURNS[self.turns],
            self.negative,
            np.array(inverse, np.uint8)[self.orders],
            np.argsort(self.blocks.ravel()),
        )


def read_blocks(ciphertexts: Images) -> EtcReading:
    """The reading of ciphertexts uint8 [N, H, W, 3] under one key, up to one global turn, inversion and channel order."""
    rows, columns = ciphertexts.shape[1] // BLOCK, ciphertexts.shape[2] // BLOCK
    scrambled = to_blocks(ciphertexts)
    layout = recover_layout(
        scrambled.astype(np.float32).mean(-1) - np.float32(127.5), rows, columns, scrambled_turns=True
    )
    reading = EtcReading(
        layout.blocks, layout.turns, layout.signs < 0, np.zeros_like(layout.blocks), layout.fit
    )
    upright = reading.decrypt(ciphertexts).astype(np.float32)
    reading = replace(reading, orders=_channel_orders(upright - upright.mean(-1, keepdims=True)))
    return reading if reading.blocks.shape == (rows, columns) else reading.transform(1, 0, negative=False)


def _upright(blocks: Images, order: Integers, turns: Integers) -> Images:
    out = blocks[:, order]
    for code in range(1, TURNS):
        out[:, turns == code] = turn_blocks(out[:, turns == code], code)
    return out


def _channel_orders(chroma: Floats) -> Integers:
    """The channel order of each block [R, C] relative to the middle one, from chroma [N, R * 8, C * 8, 3].

    Starts with the most certain neighbours; then each block in turn takes the order that fits its neighbours best.
    """
    count, height, width, _ = chroma.shape
    rows, columns = height // BLOCK, width // BLOCK
    split = chroma.reshape(count, rows, BLOCK, columns, BLOCK, 3)
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
            orders[y, x] = sum(fit[:, orders[ny, nx]] for ny, nx, fit in neighbours(y, x)).argmax()
        if np.array_equal(orders, before):
            break
    return orders
