"""Compiled walk over the entropy-coded data of one JPEG scan: does it hold every block of the image, and no more?

The walk reads the Huffman codes and skips the values, so it finds what libjpeg replaces by zeros or drops in silence.
Import it late: it needs the compiler. Without numba it runs as plain Python, about a hundred times slower.

The entropy-coded data are without byte stuffing and restart markers and end in PADDING_BYTES zeros: a block reads at
most that far past its segment before its end is checked. A code table has 2^16 entries of
256 * length of the code + symbol, indexed by the next 16 bits; 0 stands for no code.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from unveil.models.core.numba_kernels import compile_or_keep

WHOLE, MISSING_DATA, INVALID_DATA, EXTRA_DATA = range(4)
PADDING_BYTES = 512


@compile_or_keep
def _peek(data: Any, bit: int, count: int) -> Any:
    """The next `count` bits, at most 16."""
    at = bit >> 3
    word = (np.int64(data[at]) << 16) | (np.int64(data[at + 1]) << 8) | np.int64(data[at + 2])
    return ((word >> (8 - (bit & 7))) & 0xFFFF) >> (16 - count)


@compile_or_keep
def _walk_dc(data: Any, bit: Any, table: Any) -> Any:
    """Reads the difference of a DC coefficient. Returns the bit after it, the difference and a result."""
    code: Any = np.int64(table[_peek(data, bit, 16)])
    size = code & 0xFF
    if code == 0 or size > 15:
        return bit, 0, INVALID_DATA
    bit += code >> 8
    value = _peek(data, bit, size)
    if size > 0 and value >> (size - 1) == 0:
        value -= (1 << size) - 1
    return bit + size, value, WHOLE


@compile_or_keep
def _walk_ac(data: Any, bit: Any, table: Any) -> Any:
    """Skips the 63 AC coefficients of a sequential block. Returns the bit after them and a result."""
    k = 1
    while k < 64:
        code: Any = np.int64(table[_peek(data, bit, 16)])
        size, run = code & 15, (code >> 4) & 15
        if code == 0:
            return bit, INVALID_DATA
        bit += (code >> 8) + size
        if size == 0 and run < 15:
            break
        k += run + 1
        if k > 64:
            return bit, INVALID_DATA
    return bit, WHOLE


@compile_or_keep
def _walk_band(  # noqa: PLR0912 - one inner loop
    data: Any, bit: Any, table: Any, band: Any, coded: Any, ended: Any
) -> Any:
    """Skips the AC coefficients that a progressive scan has of one block.

    band: its first and last coefficient, and 1 if the scan refines coefficients that an earlier scan began. coded:
    uint8 [64], 1 for each coefficient of the block that is not zero, updated. ended: for how many blocks, from this one
    on, the band holds no new coefficient. Returns the bit after the block, the new `ended` and a result.
    """
    k, last, refines = band[0], band[1], band[2]
    while k <= last and ended == 0:
        code: Any = np.int64(table[_peek(data, bit, 16)])
        size, run = code & 15, (code >> 4) & 15
        if code == 0 or (refines and size > 1):
            return bit, ended, INVALID_DATA
        bit += code >> 8
        if size == 0 and run < 15:
            ended = (1 << run) + _peek(data, bit, run)
            bit += run
            break
        bit += size
        if refines:  # a coefficient that is not zero has one bit more and does not count as part of the run
            while k <= last and (coded[k] or run > 0):
                if coded[k]:
                    bit += 1
                else:
                    run -= 1
                k += 1
        else:
            k += run
        if k > last:
            return bit, ended, INVALID_DATA
        if size:
            coded[k] = 1
        k += 1
    if ended:
        if refines:
            while k <= last:
                bit += np.int64(coded[k])
                k += 1
        ended -= 1
    return bit, ended, WHOLE


@compile_or_keep
def _has_rest(data: Any, bit: int, end: int) -> bool:
    """Whether bytes other than padding follow before `end`."""
    for at in range((bit + 7) >> 3, end >> 3):  # noqa: SIM110 - numba compiles no any()
        if data[at] != 0x00 and data[at] != 0xFF:
            return True
    return False


@compile_or_keep
def walk_scan(  # noqa: PLR0911, PLR0912 - one inner loop
    data: Any,
    segments: Any,
    unit_count: int,
    interval: int,
    blocks: Any,
    tables: Any,
    band: Any,
    coded: Any,
    dc_limits: Any,
) -> int:
    """Walks the scan and returns one of the four results.

    data: uint8, see above. segments: int64 [S, 2], first bit and end of the data between restart markers.
    unit_count, interval: coding units of the scan, and between restart markers. blocks: int64 [B, 3], component, DC
    table and AC table of the blocks of a unit. tables: int64 [8, 65536]. band: int64 [3], see `_walk_band`; its last
    coefficient is 0 in a progressive scan of DC coefficients, 64 in a sequential scan. coded: uint8 [unit_count, 64] in
    a progressive scan of AC coefficients. dc_limits: int64 [4], the largest DC coefficient of each component.
    """
    segment, bit, end, ended = -1, 0, 0, 0
    dc = np.zeros(4, np.int64)
    for unit in range(unit_count):
        if unit % interval == 0:
            if segment >= 0 and (ended or _has_rest(data, bit, end)):
                return EXTRA_DATA
            segment += 1
            if segment == len(segments):
                return MISSING_DATA
            bit, end, ended = segments[segment, 0], segments[segment, 1], 0
            dc[:] = 0
        for n in range(len(blocks)):
            result = WHOLE
            if band[0] > 0:
                bit, ended, result = _walk_band(data, bit, tables[blocks[n, 2]], band, coded[unit], ended)
            elif band[2]:
                bit += 1
            else:
                bit, value, result = _walk_dc(data, bit, tables[blocks[n, 1]])
                component = blocks[n, 0]
                dc[component] += value
                if result == WHOLE and band[1] == 64:
                    bit, result = _walk_ac(data, bit, tables[blocks[n, 2]])
                if result == WHOLE and abs(dc[component]) > dc_limits[component]:
                    result = INVALID_DATA
            if bit > end or (result == INVALID_DATA and bit + 16 > end):
                return MISSING_DATA
            if result != WHOLE:
                return result
    if ended:
        return EXTRA_DATA
    for rest in range(segment, len(segments)):
        if _has_rest(data, bit if rest == segment else segments[rest, 0], segments[rest, 1]):
            return EXTRA_DATA
    return WHOLE
