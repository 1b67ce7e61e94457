"""Multipart forms that are torn, endless, misleading or too many."""

from __future__ import annotations

from collections.abc import Callable

from tests.hostile.corpus.kind import BOUNDARY, Endless, Kind, Sent, form, image, part, without_length
from tests.worker.sample_images import noise, png
from unveil.models.core.images import to_png

_PICTURE = to_png(noise(8, 8))
_GOOD = image(_PICTURE)
_SCHEME = part("scheme", "tanaka")
_TYPE = f"multipart/form-data; boundary={BOUNDARY.decode()}"
_LIMIT = 32 * 2**20  # the default of a body


def _refused(name: str, status: int, code: str, make: Callable[[], Sent]) -> Kind:
    return Kind(name, "/encrypt", status, code, make)


def _torn(name: str, body: bytes, type: str = _TYPE, **headers: str) -> Kind:
    return _refused(name, 400, "bad_request", lambda: Sent(body, {"Content-Type": type, **headers}))


def _unreadable(name: str, *parts: Callable[[], bytes]) -> Kind:
    return _refused(name, 400, "bad_request", lambda: form(_SCHEME, _GOOD, *(make() for make in parts)))


def _misleading(name: str, code: str, *parts: bytes) -> Kind:
    return _refused(name, 422, code, lambda: form(*parts, _GOOD))


def _taken(name: str, *files: bytes) -> Kind:
    return Kind(name, "/encrypt", 200, None, lambda: form(_SCHEME, *files), {"keys": 1})


_WHOLE = _SCHEME + _GOOD + b"--" + BOUNDARY + b"--\r\n"

KINDS = [
    _torn("a form without a boundary", _WHOLE, "multipart/form-data"),
    _torn("a form with another boundary", _WHOLE, "multipart/form-data; boundary=other"),
    _torn("a form in a charset that is none", _WHOLE, f"{_TYPE}; charset=undefined"),
    _torn("a form without an end", _SCHEME + _GOOD + _GOOD[:-40]),
    _torn("a form in gzip", b"\x1f\x8b\x08" + bytes(100), **{"Content-Encoding": "gzip"}),
    _unreadable("a part without a name", lambda: b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data\r\n\r\nx\r\n"),
    _unreadable("a part without headers", lambda: b"--" + BOUNDARY + b"\r\n\r\nx\r\n"),
    _unreadable("a field of a megabyte", lambda: part("params", " " * 2**20)),
    _unreadable("a header of a megabyte", lambda: part("images", b"", "a", None, b"\r\nX-Long: " + b"a" * 2**20)),
    _unreadable("a part of twenty thousand headers", lambda: part("images", b"", "a", None, b"\r\nX: a" * 20_000)),
    _refused("a form of no parts", 422, "invalid_request", form),
    _refused("JSON for a form", 415, "unsupported_media", lambda: Sent(b"{}", {"Content-Type": "application/json"})),
    # too much
    _refused("a body over the limit, which says so", 413, "too_large", lambda: form(image(bytes(_LIMIT)))),
    _refused("a body over the limit in pieces", 413, "too_large", lambda: without_length(form(image(bytes(_LIMIT))))),
    _refused("a body without an end", 413, "too_large", lambda: Sent(Endless(), {"Content-Type": _TYPE})),
    _refused("ten thousand parts", 413, "too_many_files", lambda: form(_GOOD, *[part("key_id", "k")] * 10_000)),
    _refused("sixty-five files", 413, "too_many_files", lambda: form(_SCHEME, *[_GOOD] * 65)),
    _refused(
        "three pictures with too many pixels together", 413, "image_too_large",
        lambda: form(_SCHEME, *[image(png(4000, 4000, 8, 2, b""))] * 3),
    ),
    # misleading
    _misleading("text where a file belongs", "invalid_request", _SCHEME, part("images", "x")),
    _misleading("a file where text belongs", "invalid_request", part("scheme", "tanaka", "s.txt")),
    _misleading("a field for administrators", "invalid_request", _SCHEME, part("admin", "1")),
    _misleading("a scheme twice", "invalid_request", _SCHEME, part("scheme", "pixelwise")),
    _misleading("a scheme with a NUL", "unknown_scheme", part("scheme", b"tanaka\0")),
    _misleading("a scheme that is a module", "unknown_scheme", part("scheme", "../base.os.system")),
    _misleading("params nested ten thousand deep", "invalid_request", _SCHEME, part("params", "[" * 10_000)),
    _misleading("params with no number", "invalid_request", _SCHEME, part("params", '{"block":NaN}')),
    _misleading("params of a huge number", "invalid_request", _SCHEME, part("params", f'{{"block":{"9" * 10_000}}}')),
    _misleading("params of dunder names", "invalid_request", _SCHEME, part("params", '{"__class__":1,"__init__":{}}')),
    _taken("a name that climbs", image(_PICTURE, "../../etc/passwd")),
    _taken("a name of three thousand letters", image(_PICTURE, "a" * 3000)),
    _taken("a name with control characters and turned writing", image(_PICTURE, "\x1b[2J\x07\u202egnp.exe")),
    _taken("a name that is no UTF-8", image(_PICTURE, "N").replace(b'"N"', b'"\xff\xfe\xfd"')),
    _taken(
        "a part in another encoding",
        part("images", _PICTURE, "a.png", "image/png", b"\r\nContent-Transfer-Encoding: base64"),
    ),
]  # fmt: skip
