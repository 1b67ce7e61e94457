"""Portable maps (PGM, PPM) of more than 8 bits, which Pillow does not read exactly."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

_HEADER = re.compile(rb"P([2356])\s(?:\s|#[^\n]*\n)*(\d+)\s+(?:#[^\n]*\n\s*)*(\d+)\s+(?:#[^\n]*\n\s*)*(\d+)\s")


def largest_value(data: bytes) -> int:
    """The maximum that the header names; 1 for bitmaps, which name none."""
    header = _HEADER.match(data)
    return 1 if header is None else int(header[4])


def read_wide(data: bytes) -> npt.NDArray[Any]:
    """uint16 [H, W] or [H, W, 3] of a map whose maximum is above 255. Raises ValueError."""
    header = _HEADER.match(data)
    assert header is not None
    kind, width, height = (int(group) for group in header.groups()[:3])
    shape = (height, width, 3) if kind % 3 == 0 else (height, width)
    count = int(np.prod(shape))
    if kind > 3:
        stored = data[header.end() :][: 2 * count]
        values = np.frombuffer(stored[: len(stored) // 2 * 2], ">u2").astype(np.uint16)
    else:
        words = re.sub(rb"#[^\n]*", b"", data[header.end() :]).split(maxsplit=count)[:count]
        values = np.array([int(word) for word in words], np.uint16)
    if len(values) < count:
        raise ValueError("is cut off: pixel data are missing")
    return values.reshape(shape)
