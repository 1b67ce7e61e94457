"""Multipart forms that are torn, endless, misleading or too many."""

from __future__ import annotations

from collections.abc import Callable

from tests.hostile.corpus.kind import BOUNDARY, Endless, HostileCase, RequestBody, form, image, part, without_length
from tests.worker.sample_images import noise, png
from unveil.models.core.images import to_png

_IMAGE_PART = to_png(noise(8, 8))
_VALID_PARTS = image(_IMAGE_PART)
_SCHEME = part("scheme", "tanaka")
_TYPE = f"multipart/form-data; boundary={BOUNDARY.decode()}"
_LIMIT = 32 * 2**20  # the default of a body


def _rejected(name: str, status: int, code: str, make: Callable[[], RequestBody]) -> HostileCase:
    return HostileCase(name, "/encrypt", status, code, make)


def _truncated(name: str, body: bytes, type: str = _TYPE, **headers: str) -> HostileCase:
    return _rejected(name, 400, "bad_request", lambda: RequestBody(body, {"Content-Type": type, **headers}))


def _unreadable(name: str, *parts: Callable[[], bytes]) -> HostileCase:
    return _rejected(name, 400, "bad_request", lambda: form(_SCHEME, _VALID_PARTS, *(make() for make in parts)))


def _misleading(name: str, code: str, *parts: bytes) -> HostileCase:
    return _rejected(name, 422, code, lambda: form(*parts, _VALID_PARTS))


def _accepted(name: str, *files: bytes) -> HostileCase:
    return HostileCase(name, "/encrypt", 200, None, lambda: form(_SCHEME, *files), {"keys": 1})


_COMPLETE_FORM = _SCHEME + _VALID_PARTS + b"--" + BOUNDARY + b"--\r\n"

KINDS = [
    _truncated("a form without a boundary", _COMPLETE_FORM, "multipart/form-data"),
    _truncated("a form with another boundary", _COMPLETE_FORM, "multipart/form-data; boundary=other"),
    _truncated("a form in a charset that is none", _COMPLETE_FORM, f"{_TYPE}; charset=undefined"),
    _truncated("a form without an end", _SCHEME + _VALID_PARTS + _VALID_PARTS[:-40]),
    _truncated("a form in gzip", b"\x1f\x8b\x08" + bytes(100), **{"Content-Encoding": "gzip"}),
    _unreadable("a part without a name", lambda: b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data\r\n\r\nx\r\n"),
    _unreadable("a part without headers", lambda: b"--" + BOUNDARY + b"\r\n\r\nx\r\n"),
    _unreadable("a field of a megabyte", lambda: part("params", " " * 2**20)),
    _unreadable("a header of a megabyte", lambda: part("images", b"", "a", None, b"\r\nX-Long: " + b"a" * 2**20)),
    _unreadable("a part of twenty thousand headers", lambda: part("images", b"", "a", None, b"\r\nX: a" * 20_000)),
    _rejected("a form of no parts", 422, "invalid_request", form),
    _rejected(
        "JSON for a form", 415, "unsupported_media", lambda: RequestBody(b"{}", {"Content-Type": "application/json"})
    ),
    # too much
    _rejected("a body over the limit, which says so", 413, "too_large", lambda: form(image(bytes(_LIMIT)))),
    _rejected("a body over the limit in pieces", 413, "too_large", lambda: without_length(form(image(bytes(_LIMIT))))),
    _rejected("a body without an end", 413, "too_large", lambda: RequestBody(Endless(), {"Content-Type": _TYPE})),
    _rejected("ten thousand parts", 413, "too_many_files", lambda: form(_VALID_PARTS, *[part("key_id", "k")] * 10_000)),
    _rejected("sixty-five files", 413, "too_many_files", lambda: form(_SCHEME, *[_VALID_PARTS] * 65)),
    _rejected(
        "three pictures with too many pixels together",
        413,
        "image_too_large",
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
    _accepted("a name that climbs", image(_IMAGE_PART, "../../etc/passwd")),
    _accepted("a name of three thousand letters", image(_IMAGE_PART, "a" * 3000)),
    _accepted("a name with control characters and turned writing", image(_IMAGE_PART, "\x1b[2J\x07\u202egnp.exe")),
    _accepted("a name that is no UTF-8", image(_IMAGE_PART, "N").replace(b'"N"', b'"\xff\xfe\xfd"')),
    _accepted(
        "a part in another encoding",
        part("images", _IMAGE_PART, "a.png", "image/png", b"\r\nContent-Transfer-Encoding: base64"),
    ),
]
