"""Detection of data that a JPEG file has lost.

libjpeg replaces missing data by zeros and skips superfluous data; Pillow does not pass its warnings on. A decoder that
reads past the end of the data reads whatever stands there, so other bytes there give other pixels.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

_END = b"\xff\xd9"
_START_OF_SCAN = 0xDA
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_PROGRESSIVE = 0xC2
_RESTARTS = range(0xD0, 0xD8)
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
# The decoder visits every block once per scan, and an empty scan takes a dozen bytes. Progressive files have about ten
# scans, files with several views a multiple of that.
_MAX_SCANS = 200
_FILL = bytes(np.random.default_rng(0).integers(1, 255, 96, dtype=np.uint8))  # no 0xFF, which would be a marker
_MARKER = re.compile(rb"\xff+[\x01-\xfe]")

Decode = Callable[[bytes], npt.NDArray[np.uint8]]


def check_jpeg(data: bytes, decode: Decode) -> tuple[bytes, list[str]]:
    """The file with its end marker, and notes. Raises ValueError if pixel data are lost."""
    scans = _walk(data)
    notes = []
    if not scans.segments:
        raise ValueError("cannot be decoded: it holds no pixel data")
    if not scans.has_end:
        data = data[: scans.segments[-1][1]] + _END
        notes.append("the missing end marker was added")
    if not scans.complete:
        raise ValueError("cannot be decoded whole: scans are missing")
    pixels = decode(data)
    filled, position = bytearray(), 0
    for _, end in scans.segments:
        filled += data[position:end] + _FILL
        position = end
    if not np.array_equal(decode(bytes(filled) + data[position:]), pixels):
        raise ValueError("cannot be decoded whole: pixel data are lost at its end or in a gap")
    # The last bytes of a progressive file may change values by less than the rounding.
    if not scans.progressive and _has_unused_data(data, scans.segments[-1], pixels, decode):
        raise ValueError("cannot be decoded whole: pixel data are lost in a gap that misplaces the rest")
    return data, notes


def _has_unused_data(data: bytes, segment: tuple[int, int], pixels: npt.NDArray[np.uint8], decode: Decode) -> bool:
    """Whether the last bytes of the last scan belong to no pixel; padding with 0x00 or 0xFF is harmless."""
    start, end = segment
    stop = start + len(data[start:end].rstrip(b"\x00\xff"))
    first = max(start, stop - 6)
    changed = bytes(value if value in (0x00, 0xAA, 0xFF) else value ^ 0x55 for value in data[first:stop])
    return changed != data[first:stop] and np.array_equal(decode(data[:first] + changed + data[stop:]), pixels)


@dataclass
class _Scans:
    segments: list[tuple[int, int]] = field(default_factory=list)  # extents of entropy-coded data between markers
    count: int = 0
    progressive: bool = False
    components: bytes = b""
    # Of (component, coefficient): how many low bits no scan has given yet.
    missing_bits: dict[tuple[int, int], int] = field(default_factory=dict)
    has_end: bool = False

    @property
    def complete(self) -> bool:
        return all(self.missing_bits.get((c, k), 1) == 0 for c in self.components for k in range(64))


def _walk(data: bytes) -> _Scans:
    """The scans of the first image of the file, without decoding them. Raises ValueError."""
    scans, position = _Scans(), 2
    while (marker := _MARKER.match(data, position)) is not None:
        code, position = data[marker.end() - 1], marker.end()
        if code == _END[1]:
            scans.has_end = True
            break
        if code in _STANDALONE:
            continue
        length = int.from_bytes(data[position : position + 2])
        body, position = data[position + 2 : position + length], position + max(2, length)
        if code in _FRAMES:
            scans.progressive, scans.components = code == _PROGRESSIVE, body[6::3]
        elif code == _START_OF_SCAN:
            position = _walk_scan(data, position, body, scans)
    return scans


def _walk_scan(data: bytes, position: int, header: bytes, scans: _Scans) -> int:
    """Adds one scan; returns the offset of the marker after it."""
    scans.count += 1
    if scans.count > _MAX_SCANS:
        raise ValueError(f"has more than {_MAX_SCANS} scans")
    components, spectrum = header[1:-3:2], header[-3:]
    if len(spectrum) < 3:
        raise ValueError("cannot be decoded: a scan has no header")
    first, last, low_bits = (spectrum[0], spectrum[1], spectrum[2] & 15) if scans.progressive else (0, 63, 0)
    for component in components:
        scans.missing_bits |= {(component, k): low_bits for k in range(first, min(last, 63) + 1)}
    for restarts, marker in enumerate(_MARKER.finditer(data, position)):
        scans.segments.append((position, marker.start()))
        code, position = data[marker.end() - 1], marker.end()
        if code not in _RESTARTS:
            return marker.start()
        if code != _RESTARTS[restarts % 8]:
            raise ValueError("cannot be decoded whole: pixel data are lost between restart markers")
    scans.segments.append((position, len(data)))
    return len(data)
