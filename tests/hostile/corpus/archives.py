"""Hostile zip files, uploaded as datasets."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Callable, Mapping

from tests.hostile.corpus.kind import Endless, HostileCase, RequestBody, form, part
from tests.sample_images import archive, classes, png
from tests.worker import sample_images as pictures


def _upload_request(data: bytes, **fields: bytes | str) -> RequestBody:
    extra = [part(name, value) for name, value in fields.items()]
    return form(part("name", "set"), part("size", "16"), *extra, part("archive", data, "a.zip", "application/zip"))


def _rejected(name: str, status: int, code: str, data: Callable[[], bytes], **fields: bytes | str) -> HostileCase:
    return HostileCase(name, "/datasets", status, code, lambda: _upload_request(data(), **fields))


def _valid_archive_with(more: Mapping[str, bytes]) -> Callable[[], bytes]:
    return lambda: archive({**classes(5), **more})


def _entry(name: str, data: bytes = b"x", mode: int = 0, method: int = zipfile.ZIP_STORED) -> Callable[[], bytes]:
    """A good archive with one entry that is not."""

    def make() -> bytes:
        held = io.BytesIO(archive(classes(5)))
        with zipfile.ZipFile(held, "a") as opened:
            info = zipfile.ZipInfo("placeholder")
            info.filename, info.external_attr, info.compress_type = name, mode << 16, method
            opened.writestr(info, data)
        return held.getvalue()

    return make


def _patched(find: bytes, at: int, value: bytes, data: bytes | None = None) -> bytes:
    """An archive with bytes after each `find` replaced."""
    packed = bytearray(archive(classes(5)) if data is None else data)
    found = packed.find(find)
    while found >= 0:
        packed[found + at : found + at + len(value)] = value
        found = packed.find(find, found + 1)
    return bytes(packed)


def _encrypted() -> bytes:
    return _patched(b"PK\1\2", 8, b"\1\0", _patched(b"PK\3\4", 6, b"\1\0"))


def _overlapping() -> bytes:
    """Every entry of the directory points to the same data: small on disk, large unpacked."""
    packed = archive({f"a/{i:04}.png": png(0) for i in range(1000)})
    return _patched(b"PK\1\2", 42, bytes(4), packed)


def _wrong_declared_size() -> bytes:
    """The directory says 100 bytes; the data unfold to 64 MiB."""
    packed = archive({**classes(5), "a/z.png": bytes(2**26)})
    at = packed.rindex(b"PK\1\2")
    return packed[: at + 24] + struct.pack("<I", 100) + packed[at + 28 :]


def _too_many_members() -> bytes:
    """A directory that says it holds 100,001 entries, in more bytes than it may have."""
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 40_000_000, 0, 0)
    return bytes(1000) + end


def _zip64_bad_offset() -> bytes:
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return bytes(100) + struct.pack("<4sIQI", b"PK\6\7", 0, 2**62, 1) + end


def _nested_bomb() -> bytes:
    return archive({**classes(5), "a/z.png": pictures.png(60_000, 60_000, 8, 2, b"")})


def _different_sizes() -> bytes:
    return archive({**classes(5), "a/z.png": png(9, 25, 24)})


def _wrong_crc() -> bytes:
    packed = bytearray(archive(classes(5)))
    packed[60] ^= 1
    return bytes(packed)


def _with_originals(originals: bytes, kind: str) -> RequestBody:
    return form(
        part("name", "set"), part("kind", kind), part("archive", archive(classes(5)), "a.zip", "application/zip"),
        part("originals", originals, "o.zip", "application/zip"),
    )  # fmt: skip


def _declared(length: int) -> RequestBody:
    return RequestBody(Endless(), {**form().headers, "Content-Length": str(length)})


KINDS = [
    _rejected("no zip at all", 422, "bad_archive", lambda: b"hello"),
    _rejected("a zip of nothing", 422, "bad_archive", lambda: archive({})),
    _rejected("a zip cut off", 422, "bad_archive", lambda: archive(classes(5))[:-30]),
    _rejected("an entry that climbs", 422, "bad_archive", _valid_archive_with({"../../x.png": png(0)})),
    _rejected("an absolute entry", 422, "bad_archive", _valid_archive_with({"/etc/x.png": png(0)})),
    _rejected("an entry with backslashes", 422, "bad_archive", _entry("a\\..\\x.png")),
    _rejected("an entry on a drive", 422, "bad_archive", _valid_archive_with({"C:/x.png": png(0)})),
    _rejected("an entry with control characters", 422, "bad_archive", _valid_archive_with({"a/\x1b[2J.png": png(0)})),
    _rejected("a symbolic link", 422, "bad_archive", _entry("a/l.png", b"/etc/passwd", stat.S_IFLNK | 0o777)),
    _rejected("an encrypted zip", 422, "bad_archive", _encrypted),
    _rejected("a zip packed by LZMA", 422, "bad_archive", _entry("a/x.png", png(0), 0, zipfile.ZIP_LZMA)),
    _rejected("a zip in a zip", 422, "bad_archive", _valid_archive_with({"a/inner.zip": archive(classes(1))})),
    _rejected(
        "a page among the pictures", 422, "bad_archive", _valid_archive_with({"a/x.html": b"<script>alert(1)</script>"})
    ),
    _rejected(
        "two entries of one name", 422, "bad_archive", lambda: _entry("a/0.pnG", png(0))().replace(b"pnG", b"png")
    ),
    _rejected("a wrong check sum", 422, "bad_archive", _wrong_crc),
    _rejected("a thousand entries over one file", 422, "bad_archive", _overlapping),
    _rejected("an entry that says less than it unfolds to", 422, "bad_archive", _wrong_declared_size),
    _rejected(
        "an entry that unfolds a thousandfold", 413, "archive_too_large", _valid_archive_with({"a/z.png": bytes(2**23)})
    ),
    _rejected("a directory of millions", 413, "archive_too_large", _too_many_members),
    _rejected("a zip64 that points nowhere", 422, "bad_archive", _zip64_bad_offset),
    _rejected("a picture of billions of pixels in a zip", 422, "bad_archive", _nested_bomb),
    _rejected("folders ten deep", 422, "bad_archive", _valid_archive_with({"a/b/c/d/e/f/g/h/i/j.png": png(0)})),
    _rejected(
        "a class of sixty thousand letters", 422, "bad_archive", _valid_archive_with({f"{'c' * 60_000}/z.png": png(0)})
    ),
    _rejected("too few to split", 422, "bad_archive", lambda: archive(classes(2))),
    _rejected("a test without training", 422, "bad_archive", lambda: archive(classes(3, "test/"))),
    _rejected("protected pictures of unlike sizes", 422, "bad_archive", _different_sizes, kind="protected"),
    HostileCase(
        "originals for plain pictures",
        "/datasets",
        422,
        "originals_not_taken",
        lambda: _with_originals(archive(classes(5)), "plain"),
    ),
    HostileCase(
        "originals under other names",
        "/datasets",
        422,
        "bad_archive",
        lambda: _with_originals(archive(classes(4) | {"a/z.png": png(0)}), "protected"),
    ),
    HostileCase(
        "an archive as text",
        "/datasets",
        422,
        "invalid_request",
        lambda: form(part("name", "set"), part("archive", "PK")),
    ),
    _rejected("a name with a line end", 422, "invalid_request", lambda: archive(classes(5)), seed="1\r\n2"),
    _rejected("a kind that there is not", 422, "invalid_request", lambda: archive(classes(5)), kind="secret"),
    HostileCase("an archive of a terabyte, as it says", "/datasets", 413, "too_large", lambda: _declared(2**40)),
    HostileCase(
        "an archive behind a program",
        "/datasets",
        201,
        None,
        lambda: _upload_request(b"MZ" + bytes(1000) + archive(classes(5))),
        {"datasets": 1, "blobs": 1},
    ),
]
