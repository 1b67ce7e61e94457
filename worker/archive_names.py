"""Names of zip members as their author saw them.

The format knows UTF-8, flagged, and code page 437. Many programs write neither: macOS writes UTF-8 without the flag,
Windows writes the code page of its country.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Sequence

_UTF8_FLAG = 0x800
_UNICODE_PATH_FIELD = 0x7075
# Tried in this order on all names of an archive together; the first that gives plausible names is taken.
_EAST_ASIAN = ("cp932", "gbk", "big5")
_WESTERN = ("cp437", "cp1252")
_HALFWIDTH_KATAKANA = range(0xFF61, 0xFFA0)  # what GBK looks like when it is read as Shift-JIS


def member_names(infos: Sequence[zipfile.ZipInfo]) -> list[str]:
    """The names with `/` between folders, whatever wrote them."""
    raw_names = {
        info.orig_filename: info.orig_filename.encode("cp437") for info in infos if not info.flag_bits & _UTF8_FLAG
    }
    encoding = _guess_encoding([raw for raw in raw_names.values() if not raw.isascii()])
    names = []
    for info in infos:
        raw = raw_names.get(info.orig_filename)
        names.append(info.orig_filename if raw is None else _unicode_path(info.extra, raw) or raw.decode(encoding))
    # The format demands `/`. A program that writes `\\` instead writes no `/` at all.
    if not any("/" in name for name in names):
        names = [name.replace("\\", "/") for name in names]
    return names


def _guess_encoding(names: Sequence[bytes]) -> str:
    for encoding in ("utf-8", *_EAST_ASIAN, *_WESTERN):
        try:
            decoded = [name.decode(encoding) for name in names]
        except UnicodeDecodeError:
            continue
        # Bytes of another encoding are rarely valid UTF-8.
        if encoding == "utf-8" or all(_is_plausible(name, encoding in _EAST_ASIAN) for name in decoded):
            return encoding
    return "cp437"


def _is_plausible(name: str, east_asian: bool) -> bool:
    for before, letter, after in zip(" " + name[:-1], name, name[1:] + " ", strict=True):
        if letter.isascii():
            continue
        if not letter.isalnum() or ord(letter) in _HALFWIDTH_KATAKANA:
            return False
        # A Western accent and the letter after it make one East Asian character among Latin letters.
        if east_asian and any(neighbour.isascii() and neighbour.isalpha() for neighbour in (before, after)):
            return False
    return True


def _unicode_path(extra: bytes, raw: bytes) -> str | None:
    """Info-ZIP's Unicode path, if it belongs to this name."""
    offset = 0
    while offset + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, offset)
        body = extra[offset + 4 : offset + 4 + size]
        if kind == _UNICODE_PATH_FIELD and len(body) > 5 and struct.unpack_from("<I", body, 1)[0] == zlib.crc32(raw):
            try:
                return body[5:].decode()
            except UnicodeDecodeError:
                return None
        offset += 4 + size
    return None
