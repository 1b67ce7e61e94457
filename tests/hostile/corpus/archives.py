"""Hostile zip files, uploaded as data sets."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Callable, Mapping

from tests.hostile.corpus.kind import Endless, Kind, Sent, form, part
from tests.sample_images import archive, classes, png
from tests.worker import sample_images as pictures


def _sent(data: bytes, **fields: bytes | str) -> Sent:
    extra = [part(name, value) for name, value in fields.items()]
    return form(part("name", "set"), part("size", "16"), *extra, part("archive", data, "a.zip", "application/zip"))


def _refused(name: str, status: int, code: str, data: Callable[[], bytes], **fields: bytes | str) -> Kind:
    return Kind(name, "/datasets", status, code, lambda: _sent(data(), **fields))


def _with(more: Mapping[str, bytes]) -> Callable[[], bytes]:
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


def _changed(find: bytes, at: int, value: bytes, data: bytes | None = None) -> bytes:
    """An archive with bytes after each `find` replaced."""
    packed = bytearray(archive(classes(5)) if data is None else data)
    found = packed.find(find)
    while found >= 0:
        packed[found + at : found + at + len(value)] = value
        found = packed.find(find, found + 1)
    return bytes(packed)


def _encrypted() -> bytes:
    return _changed(b"PK\1\2", 8, b"\1\0", _changed(b"PK\3\4", 6, b"\1\0"))


def _overlapping() -> bytes:
    """Every entry of the directory points to the same data: small on disk, large unpacked."""
    packed = archive({f"a/{i:04}.png": png(0) for i in range(1000)})
    return _changed(b"PK\1\2", 42, bytes(4), packed)


def _that_lies_about_its_size() -> bytes:
    """The directory says 100 bytes; the data unfold to 64 MiB."""
    packed = archive({**classes(5), "a/z.png": bytes(2**26)})
    at = packed.rindex(b"PK\1\2")
    return packed[: at + 24] + struct.pack("<I", 100) + packed[at + 28 :]


def _of_a_hundred_thousand_and_more() -> bytes:
    """A directory that says it holds 100,001 entries, in more bytes than it may have."""
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 40_000_000, 0, 0)
    return bytes(1000) + end


def _zip64_that_points_nowhere() -> bytes:
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return bytes(100) + struct.pack("<4sIQI", b"PK\6\7", 0, 2**62, 1) + end


def _with_a_bomb_inside() -> bytes:
    return archive({**classes(5), "a/z.png": pictures.png(60_000, 60_000, 8, 2, b"")})


def _of_unlike_sizes() -> bytes:
    return archive({**classes(5), "a/z.png": png(9, 25, 24)})


def _with_a_wrong_sum() -> bytes:
    packed = bytearray(archive(classes(5)))
    packed[60] ^= 1
    return bytes(packed)


def _with_originals(originals: bytes, kind: str) -> Sent:
    return form(
        part("name", "set"), part("kind", kind), part("archive", archive(classes(5)), "a.zip", "application/zip"),
        part("originals", originals, "o.zip", "application/zip"),
    )  # fmt: skip


def _declared(length: int) -> Sent:
    return Sent(Endless(), {**form().headers, "Content-Length": str(length)})


KINDS = [
    _refused("no zip at all", 422, "bad_archive", lambda: b"hello"),
    _refused("a zip of nothing", 422, "bad_archive", lambda: archive({})),
    _refused("a zip cut off", 422, "bad_archive", lambda: archive(classes(5))[:-30]),
    _refused("an entry that climbs", 422, "bad_archive", _with({"../../x.png": png(0)})),
    _refused("an absolute entry", 422, "bad_archive", _with({"/etc/x.png": png(0)})),
    _refused("an entry with backslashes", 422, "bad_archive", _entry("a\\..\\x.png")),
    _refused("an entry on a drive", 422, "bad_archive", _with({"C:/x.png": png(0)})),
    _refused("an entry with control characters", 422, "bad_archive", _with({"a/\x1b[2J.png": png(0)})),
    _refused("a symbolic link", 422, "bad_archive", _entry("a/l.png", b"/etc/passwd", stat.S_IFLNK | 0o777)),
    _refused("an encrypted zip", 422, "bad_archive", _encrypted),
    _refused("a zip packed by LZMA", 422, "bad_archive", _entry("a/x.png", png(0), 0, zipfile.ZIP_LZMA)),
    _refused("a zip in a zip", 422, "bad_archive", _with({"a/inner.zip": archive(classes(1))})),
    _refused("a page among the pictures", 422, "bad_archive", _with({"a/x.html": b"<script>alert(1)</script>"})),
    _refused("two entries of one name", 422, "bad_archive",
             lambda: _entry("a/0.pnG", png(0))().replace(b"pnG", b"png")),
    _refused("a wrong check sum", 422, "bad_archive", _with_a_wrong_sum),
    _refused("a thousand entries over one file", 422, "bad_archive", _overlapping),
    _refused("an entry that says less than it unfolds to", 422, "bad_archive", _that_lies_about_its_size),
    _refused("an entry that unfolds a thousandfold", 413, "archive_too_large", _with({"a/z.png": bytes(2**23)})),
    _refused("a directory of millions", 413, "archive_too_large", _of_a_hundred_thousand_and_more),
    _refused("a zip64 that points nowhere", 422, "bad_archive", _zip64_that_points_nowhere),
    _refused("a picture of billions of pixels in a zip", 422, "bad_archive", _with_a_bomb_inside),
    _refused("folders ten deep", 422, "bad_archive", _with({"a/b/c/d/e/f/g/h/i/j.png": png(0)})),
    _refused("a class of sixty thousand letters", 422, "bad_archive", _with({f"{'c' * 60_000}/z.png": png(0)})),
    _refused("too few to split", 422, "bad_archive", lambda: archive(classes(2))),
    _refused("a test without training", 422, "bad_archive", lambda: archive(classes(3, "test/"))),
    _refused("protected pictures of unlike sizes", 422, "bad_archive", _of_unlike_sizes, kind="protected"),
    Kind("originals for plain pictures", "/datasets", 422, "originals_not_taken",
         lambda: _with_originals(archive(classes(5)), "plain")),
    Kind("originals under other names", "/datasets", 422, "bad_archive",
         lambda: _with_originals(archive(classes(4) | {"a/z.png": png(0)}), "protected")),
    Kind("an archive as text", "/datasets", 422, "invalid_request",
         lambda: form(part("name", "set"), part("archive", "PK"))),
    _refused("a name with a line end", 422, "invalid_request", lambda: archive(classes(5)), seed="1\r\n2"),
    _refused("a kind that there is not", 422, "invalid_request", lambda: archive(classes(5)), kind="secret"),
    Kind("an archive of a terabyte, as it says", "/datasets", 413, "too_large", lambda: _declared(2**40)),
    Kind("an archive behind a program", "/datasets", 201, None,
         lambda: _sent(b"MZ" + bytes(1000) + archive(classes(5))), {"datasets": 1, "blobs": 1}),
]  # fmt: skip
