"""Detection of data that a JPEG file has lost.

libjpeg replaces missing data by zeros and skips superfluous data; Pillow does not pass its warnings on. Therefore the
entropy-coded data are walked: each scan must hold exactly the blocks of the image. A JPEG has no checksum: values that
were overwritten by others that fit in stay undetected.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

END_NOTE = "the missing end marker was added"
ARITHMETIC_NOTE = "arithmetic coding: lost data would go unnoticed"

_END = b"\xff\xd9"
_START_OF_SCAN, _HUFFMAN_TABLES, _QUANTIZATION_TABLES, _RESTART_INTERVAL = 0xDA, 0xC4, 0xDB, 0xDD
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_HUFFMAN_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_PROGRESSIVE, _PROGRESSIVE_ARITHMETIC = 0xC2, 0xCA
_RESTARTS = range(0xD0, 0xD8)
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
# The walk visits every block once per scan, and an empty scan takes a dozen bytes. Progressive files have about ten
# scans, files with several views a multiple of that.
_MAX_SCANS = 200
_MAX_BLOCKS_PER_UNIT = 10
# A DC coefficient is 8 times the mean of a block of -128 to 127. Some encoders exceed it a little at clipped edges.
_MAX_DC = 8 * 160
_MARKER = re.compile(rb"\xff+[\x01-\xfe]")


def check_jpeg(data: bytes) -> tuple[bytes, list[str]]:
    """The file with its end marker, and notes. Raises ValueError if pixel data are lost."""
    notes = []
    file = _Jpeg(data)
    file.walk()
    if not file.has_end:
        data = data[: file.scans_end] + _END
        notes.append(END_NOTE)
    if file.arithmetic:
        notes.append(ARITHMETIC_NOTE)
    return data, notes


@dataclass
class _Component:
    wide: int  # blocks of a unit in each direction
    high: int
    quantization: int  # its table
    missing_bits: list[int | None] = field(
        default_factory=lambda: [None] * 64
    )  # of each coefficient; None: all of them
    coded: npt.NDArray[np.uint8] | None = None  # [blocks, 64], coefficients that are not zero


class _Jpeg:
    """The first image of a file, read marker by marker."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.frame = 0  # its marker
        self.size = (0, 0)  # height, width
        self.components: dict[int, _Component] = {}
        self.dc_steps: dict[int, int] = {}  # quantization table -> step of the DC coefficient
        self.code_tables: dict[int, bytes] = {}  # row of `tables` -> counts of 16 lengths, then symbols
        self.tables = np.zeros((8, 2**16), np.int64)
        self.interval = 0
        self.scan_count = 0
        self.scans_end = 0
        self.has_end = False

    @property
    def arithmetic(self) -> bool:
        return self.frame not in _HUFFMAN_FRAMES

    def walk(self) -> None:
        position = 2
        while (marker := _MARKER.match(self.data, position)) is not None:
            code, position = self.data[marker.end() - 1], marker.end()
            if code == _END[1]:
                self.has_end = True
                break
            if code in _STANDALONE:
                continue
            length = int.from_bytes(self.data[position : position + 2])
            body, position = self.data[position + 2 : position + length], position + max(2, length)
            if code in _FRAMES:
                self._read_frame(code, body)
            elif code == _HUFFMAN_TABLES:
                self._read_code_tables(body)
            elif code == _QUANTIZATION_TABLES:
                self._read_quantization_tables(body)
            elif code == _RESTART_INTERVAL:
                self.interval = int.from_bytes(body[:2])
            elif code == _START_OF_SCAN:
                position = self._read_scan(body, position)
        if self.scan_count == 0:
            raise ValueError("cannot be decoded: it holds no pixel data")
        if any(bits != 0 for component in self.components.values() for bits in component.missing_bits):
            raise ValueError("cannot be decoded whole: scans are missing")

    def _read_frame(self, code: int, body: bytes) -> None:
        if self.components:
            raise ValueError("cannot be decoded: it has several frames")
        self.frame, self.size = code, (int.from_bytes(body[1:3]), int.from_bytes(body[3:5]))
        for at in range(6, len(body) - 2, 3):
            self.components[body[at]] = _Component(body[at + 1] >> 4, body[at + 1] & 15, body[at + 2])
        if min(self.size) == 0 or not 1 <= len(self.components) <= 4:
            raise ValueError("cannot be decoded: its frame header is damaged")
        if any(not (1 <= c.wide <= 4 and 1 <= c.high <= 4) for c in self.components.values()):
            raise ValueError("cannot be decoded: its frame header is damaged")

    def _read_code_tables(self, body: bytes) -> None:
        while len(body) >= 17:
            end = 17 + sum(body[1:17])
            self.code_tables[(body[0] >> 4 & 1) * 4 + (body[0] & 3)] = body[1:end]
            body = body[end:]

    def _read_quantization_tables(self, body: bytes) -> None:
        while len(body) >= 3:
            bytes_per_step = 2 if body[0] >> 4 else 1
            self.dc_steps[body[0] & 15] = int.from_bytes(body[1 : 1 + bytes_per_step])
            body = body[1 + 64 * bytes_per_step :]

    def _read_scan(self, header: bytes, position: int) -> int:
        """Walks one scan; returns the offset of the marker after it."""
        self.scan_count += 1
        if self.scan_count > _MAX_SCANS:
            raise ValueError(f"has more than {_MAX_SCANS} scans")
        segments, end = self._split_at_restarts(position)
        self.scans_end = end
        selectors = list(zip(header[1:-3:2], header[2:-3:2], strict=False))
        if len(header) < 6 or len(selectors) != header[0] or any(c not in self.components for c, _ in selectors):
            raise ValueError("cannot be decoded: the header of a scan is damaged")
        first, last, high, low = header[-3], header[-2], header[-1] >> 4, header[-1] & 15
        if self.frame not in (_PROGRESSIVE, _PROGRESSIVE_ARITHMETIC):
            first, last, high, low = 0, 63, 0, 0
        if not first <= last < 64 or (first > 0 and len(selectors) > 1):
            raise ValueError("cannot be decoded: the header of a scan is damaged")
        for identity, _ in selectors:
            missing = self.components[identity].missing_bits
            if any(bits != (high or None) for bits in missing[first : last + 1]):
                raise ValueError("cannot be decoded whole: scans are missing or repeated")
            missing[first : last + 1] = [low] * (last + 1 - first)
        if not self.arithmetic:
            self._walk_scan(segments, selectors, (first, last, int(high > 0)), low)
        return end

    def _split_at_restarts(self, position: int) -> tuple[list[bytes], int]:
        segments = []
        for restarts, marker in enumerate(_MARKER.finditer(self.data, position)):
            segments.append(self.data[position : marker.start()].replace(b"\xff\0", b"\xff"))
            code, position = self.data[marker.end() - 1], marker.end()
            if code not in _RESTARTS:
                return segments, marker.start()
            if code != _RESTARTS[restarts % 8]:
                raise ValueError("cannot be decoded whole: pixel data are lost between restart markers")
        segments.append(self.data[position:].replace(b"\xff\0", b"\xff"))
        return segments, len(self.data)

    def _walk_scan(
        self, segments: list[bytes], selectors: list[tuple[int, int]], band: tuple[int, int, int], low_bits: int
    ) -> None:
        from unveil.models.data import jpeg_scans  # imported late: it compiles

        order = list(self.components)
        blocks, limits = [], [0] * 4
        for identity, tables in selectors:
            component, index = self.components[identity], order.index(identity)
            step = max(1, self.dc_steps.get(component.quantization, 1))
            limits[index] = (_MAX_DC // step + 1 >> low_bits) + 1
            count = 1 if len(selectors) == 1 else component.wide * component.high
            blocks += [(index, tables >> 4 & 3, 4 + (tables & 3))] * count
        if len(blocks) > _MAX_BLOCKS_PER_UNIT:
            raise ValueError("cannot be decoded: the header of a scan is damaged")
        unit_count = self._count_units([self.components[identity] for identity, _ in selectors])
        component = self.components[selectors[0][0]]
        if band[0] > 0 and component.coded is None:
            component.coded = np.zeros((unit_count, 64), np.uint8)
        ends = np.cumsum([8 * len(segment) for segment in segments])
        lengths = np.array([8 * len(segment) for segment in segments])
        result = jpeg_scans.walk_scan(
            np.frombuffer(b"".join(segments) + bytes(jpeg_scans.PADDING_BYTES), np.uint8),
            np.stack([ends - lengths, ends], 1),
            unit_count,
            self.interval or unit_count,
            np.array(blocks, np.int64),
            self._build_tables(),
            np.array(band if self.frame == _PROGRESSIVE else (0, 64, 0), np.int64),
            np.zeros((0, 64), np.uint8) if band[0] == 0 or component.coded is None else component.coded,
            np.array(limits, np.int64),
        )
        if result == jpeg_scans.MISSING_DATA:
            raise ValueError("cannot be decoded whole: pixel data are lost at its end or in a gap")
        if result == jpeg_scans.EXTRA_DATA:
            raise ValueError("cannot be decoded whole: it holds more data than pixels, as after a gap or an insertion")
        if result == jpeg_scans.INVALID_DATA:
            raise ValueError("cannot be decoded whole: pixel data are damaged")

    def _count_units(self, components: list[_Component]) -> int:
        """Units of a scan: blocks if it has one component, else groups of blocks of all its components."""
        widest = max(c.wide for c in self.components.values())
        highest = max(c.high for c in self.components.values())
        height, width = self.size
        if len(components) > 1:
            return -(-width // (8 * widest)) * -(-height // (8 * highest))
        (one,) = components
        across, down = -(-width * one.wide // widest), -(-height * one.high // highest)
        return -(-across // 8) * -(-down // 8)

    def _build_tables(self) -> npt.NDArray[np.int64]:
        """Fills the rows of the code tables that were defined since the last scan."""
        for row, definition in self.code_tables.items():
            counts, symbols = definition[:16], definition[16:]
            self.tables[row] = 0
            code = at = 0
            for length, count in enumerate(counts, 1):
                if len(symbols) < at + count or code + count > 1 << length:
                    raise ValueError("cannot be decoded: a code table is damaged")
                for symbol in symbols[at : at + count]:
                    self.tables[row, code << 16 - length : code + 1 << 16 - length] = length << 8 | symbol
                    code += 1
                at, code = at + count, code << 1
        self.code_tables.clear()
        return self.tables
