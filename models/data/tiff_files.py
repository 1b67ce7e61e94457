"""Checksums of deflated TIFF files, which libtiff does not compare."""

from __future__ import annotations

import zlib
from typing import Any

_COMPRESSION, _DEFLATE = 259, (8, 32946)
_OFFSETS_AND_SIZES = ((273, 279), (324, 325))  # of strips, of tiles
_CHUNK_BYTES = 2**20


def check_deflate(data: bytes, tags: Any) -> bool:
    """Whether every strip or tile of the image has a checksum, which holds. tags: of Pillow, by number.

    Raises ValueError if one does not hold.
    """
    if tags.get(_COMPRESSION) not in _DEFLATE:
        return False
    checksums = []
    for offsets_tag, sizes_tag in _OFFSETS_AND_SIZES:
        offsets, sizes = tags.get(offsets_tag, ()), tags.get(sizes_tag, ())
        if len(offsets) != len(sizes):
            return False
        checksums += [_is_whole(data[offset : offset + size]) for offset, size in zip(offsets, sizes, strict=True)]
    return bool(checksums) and all(checksums)


def _is_whole(strip: bytes) -> bool:
    """Whether the stream ends with its checksum. Inflates it piece by piece, because it may be a bomb."""
    inflate = zlib.decompressobj()
    try:
        while strip and not inflate.eof:
            inflate.decompress(strip, _CHUNK_BYTES)
            strip = inflate.unconsumed_tail
    except zlib.error as error:
        raise ValueError(f"has pixel data that do not inflate ({error})") from None
    return inflate.eof
