"""Identifiers: a prefix for the kind of object, then a UUIDv7 (RFC 9562) in hex, so ids sort by time."""

from __future__ import annotations

import os
import re
import time

_ID_PATTERN = re.compile(r"[a-z]+_[0-9a-f]{32}")


def new_id(prefix: str) -> str:
    """For example ev_0197f3c2a5d17a3b8c4d5e6f708192a3."""
    milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
    # RFC 9562, section 6.2, method 3: 12 bits of the time within the millisecond, so that ids of one millisecond sort.
    fraction = nanoseconds * 4096 // 1_000_000
    random = int.from_bytes(os.urandom(8), "big") & (1 << 62) - 1
    value = milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | random
    return f"{prefix}_{value:032x}"


def timestamp_of_id(id: str) -> float:
    """When `new_id` made it, in seconds of Unix time."""
    return int(id.rsplit("_", 1)[1][:12], 16) / 1000


def is_id(text: str) -> bool:
    """Whether `new_id` may have made it; anything else may hold what a database refuses."""
    return _ID_PATTERN.fullmatch(text) is not None
