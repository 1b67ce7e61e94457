"""Hostile image files, one in a request to encrypt."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from tests.hostile.corpus.kind import HostileCase, form, image, part
from tests.worker.sample_images import encode, encode_animation, encode_pixels, noise, png, png_of_16_bits

_SCHEME = part("scheme", "tanaka")
_ONE_KEY = {"keys": 1}


def _rejected(name: str, status: int, code: str, data: Callable[[], bytes], type: str = "image/png") -> HostileCase:
    return HostileCase(name, "/encrypt", status, code, lambda: form(_SCHEME, image(data(), "a.bin", type)))


def _accepted(name: str, data: Callable[[], bytes], type: str = "image/png") -> HostileCase:
    return HostileCase(name, "/encrypt", 200, None, lambda: form(_SCHEME, image(data(), "a.bin", type)), _ONE_KEY)


def _flipped() -> bytes:
    data = bytearray(encode_pixels(noise()))
    data[len(data) // 2] ^= 1
    return bytes(data)


def _many_chunks() -> bytes:
    rows = zlib.compress(b"\0" + bytes(3))
    return png(1, 1, 8, 2, rows, *((b"tEXt", b"k\0v") for _ in range(50_000)))


def _text_bomb() -> bytes:
    return png(1, 1, 8, 2, zlib.compress(bytes(4)), (b"zTXt", b"k\0\0" + zlib.compress(bytes(80_000_000), 9)))


def _profile_bomb() -> bytes:
    return png(1, 1, 8, 2, zlib.compress(bytes(4)), (b"iCCP", b"k\0\0" + zlib.compress(bytes(80_000_000), 9)))


def _compress_zeros(size: int) -> bytes:
    """Zeros, deflated without holding them."""
    packer = zlib.compressobj(9)
    step = bytes(2**20)
    parts = [packer.compress(step[: min(len(step), size - at)]) for at in range(0, size, len(step))]
    return b"".join([*parts, packer.flush()])


def _polyglot_with_zip() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("evil.txt", "x")
    return encode_pixels(noise()) + held.getvalue()


def _jpeg(**options: object) -> bytes:
    return encode(Image.fromarray(noise(64, 64)), "JPEG", **options)


def _jpeg_of_scans(side: int = 1024, scans: int = 20_000) -> bytes:
    """A progressive JPEG whose scans say nothing, one after another: each costs a walk over every block."""
    head = b"\xff\xd8\xff\xdb\0\x43\0" + bytes([1]) * 64
    head += b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, side, side, 1) + b"\1\x11\0"
    # one code of one bit for the run of all remaining blocks
    head += b"\xff\xc4" + struct.pack(">HB", 20, 0) + bytes([1, *[0] * 15]) + b"\0"
    head += b"\xff\xc4" + struct.pack(">HB", 20, 0x10) + bytes([1, *[0] * 15]) + b"\xe0"
    first = b"\xff\xda\0\x08\1\1\0\0\0\0" + bytes(side * side // 64 // 8 + 1)
    again = b"\xff\xda\0\x08\1\1\0\1\x3f\0" + bytes(4)
    return head + first + again * scans + b"\xff\xd9"


def _jpeg_with_declared_size(width: int, height: int) -> bytes:
    data = bytearray(_jpeg())
    at = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, at + 5, height, width)
    return bytes(data)


def _jpeg_of_12_bits() -> bytes:
    data = bytearray(_jpeg())
    data[data.index(b"\xff\xc0") + 4] = 12
    return bytes(data)


def _exif_cycle() -> bytes:
    """An EXIF directory that names itself as the next one, with an orientation."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack(">HHII", 0x8769, 4, 1, 8)
    exif = b"Exif\0\0MM\0*" + struct.pack(">I", 8) + struct.pack(">H", 2) + entry + struct.pack(">I", 8)
    return _jpeg(exif=exif)


def _bmp_overrun() -> bytes:
    """Run-length coded, with moves far out of the picture."""
    header = struct.pack("<IiiHHIIiiII", 40, 64, 64, 1, 8, 1, 0, 0, 0, 256, 0)
    pixels = b"\0\2\xff\xff" * 1000 + b"\xff\1" * 1000 + b"\0\1"
    at = 14 + 40 + 1024
    return b"BM" + struct.pack("<IHHI", at + len(pixels), 0, 0, at) + header + bytes(1024) + pixels


def _bmp_of_huge_size() -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, 2**30, -(2**31), 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


def _gif_outside_its_screen() -> bytes:
    """A frame of 65535 x 65535 on a screen of 1 x 1."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 0xFFFF, 0xFFFF, 0) + b"\2\2\x4c\1\0"
    return screen + frame + b";"


def _gif_of_many_frames() -> bytes:
    screen = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    return screen + frame * 100_000 + b";"


def _webp_truncated() -> bytes:
    return encode(Image.fromarray(noise(64, 64)), "WEBP")[:-200]


def _webp_with_declared_size() -> bytes:
    """An extended header of 16384 x 16384 around nothing."""
    canvas = struct.pack("<I", 16383)[:3]
    chunk = b"VP8X" + struct.pack("<I", 10) + bytes(4) + canvas + canvas
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def _palette_with_alpha() -> bytes:
    picture = Image.fromarray(noise()).quantize(16)
    return encode(picture, "PNG", transparency=bytes(range(0, 256, 16)))


def _palette_too_short() -> bytes:
    """Pixels that point past the end of the palette."""
    rows = zlib.compress(b"".join(b"\0" + bytes([255] * 4) for _ in range(4)))
    return png(4, 4, 8, 3, rows, (b"PLTE", bytes(6)))


def _rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _jpeg(exif=exif)


def _cmyk() -> bytes:
    return encode(Image.new("CMYK", (16, 16), (10, 200, 30, 40)), "JPEG")


def _grey_and_alpha() -> bytes:
    return encode(Image.new("LA", (8, 8), (100, 50)), "PNG")


def _multi_picture() -> bytes:
    """MPO, as phones write it: a JPEG that carries another view."""
    views = [Image.fromarray(noise(32, 32, seed)) for seed in range(2)]
    return encode(views[0], "MPO", save_all=True, append_images=views[1:])


def _svg() -> bytes:
    return b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><svg xmlns="http://www.w3.org/2000/svg">&e;</svg>'


KINDS = [
    # not whole
    _rejected("an empty file", 422, "broken_image", lambda: b""),
    _rejected("a PNG signature and nothing more", 422, "broken_image", lambda: b"\x89PNG\r\n\x1a\n"),
    _rejected("a PNG cut off", 422, "broken_image", lambda: encode_pixels(noise())[:200]),
    _rejected("a PNG with one bit flipped", 422, "broken_image", _flipped),
    _rejected("a PNG whose pixels do not inflate", 422, "broken_image", lambda: png(4, 4, 8, 2, b"not zlib")),
    _rejected("a PNG with too few pixels", 422, "broken_image", lambda: png(4, 4, 8, 2, zlib.compress(bytes(39)))),
    _rejected("a PNG of no width", 422, "broken_image", lambda: png(0, 5, 8, 2, b"")),
    _rejected("a PNG of a colour type that is none", 422, "broken_image", lambda: png(4, 4, 8, 5, b"")),
    _rejected("a JPEG cut off", 422, "broken_image", lambda: _jpeg()[:400], "image/jpeg"),
    _rejected("a JPEG of 12 bits a channel", 422, "broken_image", _jpeg_of_12_bits, "image/jpeg"),
    _rejected("a WebP cut off", 422, "broken_image", _webp_truncated, "image/webp"),
    _rejected("a GIF of garbage", 422, "broken_image", lambda: b"GIF89a" + bytes(range(256)), "image/gif"),
    # bombs
    _rejected("a PNG of 60000 x 60000", 413, "image_too_large", lambda: png(60_000, 60_000, 8, 2, b"")),
    _rejected("a PNG of 2^31 - 1 squared", 413, "image_too_large", lambda: png(2**31 - 1, 2**31 - 1, 16, 6, b"")),
    _rejected(
        "a PNG that inflates past its pixels", 422, "broken_image", lambda: png(4, 4, 8, 2, _compress_zeros(2**26))
    ),
    _rejected("a PNG whose comment unfolds", 422, "broken_image", _text_bomb),
    _rejected("a PNG whose profile unfolds", 422, "broken_image", _profile_bomb),
    _rejected(
        "a JPEG that claims 65535 x 65535",
        413,
        "image_too_large",
        lambda: _jpeg_with_declared_size(65535, 65535),
        "image/jpeg",
    ),
    _rejected("a JPEG of twenty thousand scans", 422, "broken_image", _jpeg_of_scans, "image/jpeg"),
    _rejected("a BMP of 2^30 x 2^31", 413, "image_too_large", _bmp_of_huge_size, "image/bmp"),
    _rejected("a GIF frame larger than its screen", 413, "image_too_large", _gif_outside_its_screen, "image/gif"),
    _rejected("a WebP that claims 16384 x 16384", 413, "image_too_large", _webp_with_declared_size, "image/webp"),
    _accepted(
        "a PNG of a million equal pixels in a kilobyte", lambda: png(1000, 1000, 8, 2, _compress_zeros(1000 * 3001))
    ),
    _accepted("a strip of 60000 x 1", lambda: encode_pixels(noise(1, 60_000))),
    # moving
    _rejected("an animated GIF", 422, "animated_image", lambda: encode_animation("GIF"), "image/gif"),
    _rejected("an animated PNG", 422, "animated_image", lambda: encode_animation("PNG")),
    _rejected("an animated WebP", 422, "animated_image", lambda: encode_animation("WEBP"), "image/webp"),
    _rejected("a GIF of a hundred thousand frames", 422, "animated_image", _gif_of_many_frames, "image/gif"),
    # something else
    _rejected("text called an image", 415, "unsupported_image", lambda: b"hello"),
    _rejected("an SVG that reads files", 415, "unsupported_image", _svg, "image/svg+xml"),
    _rejected("PostScript", 415, "unsupported_image", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n"),
    _rejected(
        "a TIFF of floats", 415, "unsupported_image", lambda: encode(Image.new("F", (4, 4)), "TIFF"), "image/tiff"
    ),
    _rejected("a TIFF of many pages", 422, "animated_image", lambda: encode_animation("TIFF"), "image/tiff"),
    _rejected("a JPEG that lost its end", 422, "broken_image", lambda: _jpeg()[:-200] + b"\xff\xd9", "image/jpeg"),
    _rejected("an icon file", 415, "unsupported_image", lambda: encode(Image.new("RGB", (16, 16)), "ICO")),
    _rejected("a PNG in gzip", 415, "unsupported_image", lambda: b"\x1f\x8b\x08" + encode_pixels(noise())),
    _rejected("a PNG declared as a page", 415, "unsupported_image", lambda: encode_pixels(noise()), "text/html"),
    # odd, and made plain
    _accepted("a PNG declared as JPEG", lambda: encode_pixels(noise()), "image/jpeg"),
    _accepted("a JPEG without end marker", lambda: _jpeg()[:-2], "image/jpeg"),
    _accepted("a PNG that is a zip too", _polyglot_with_zip),
    _accepted("a JPEG with a page behind it", lambda: _jpeg() + b"<script>alert(1)</script>", "image/jpeg"),
    _accepted("a PNG of fifty thousand comments", _many_chunks),
    _accepted("a PNG of 16 bits", lambda: png_of_16_bits(np.full((8, 8, 3), 40_000, np.uint16))),
    _accepted("a palette with alpha", _palette_with_alpha),
    _accepted("a palette shorter than its pixels say", _palette_too_short),
    _accepted("grey with alpha", _grey_and_alpha),
    _accepted("a CMYK JPEG", _cmyk, "image/jpeg"),
    _accepted("a JPEG turned by EXIF", _rotated, "image/jpeg"),
    _accepted("a JPEG whose EXIF names itself", _exif_cycle, "image/jpeg"),
    _accepted("a JPEG of several views", _multi_picture, "image/jpeg"),
    _accepted("a BMP with moves out of its picture", _bmp_overrun, "image/bmp"),
    _accepted("a picture of one pixel", lambda: encode_pixels(noise(1, 1))),
]

LARGEST = _accepted("the largest picture that is taken", lambda: png(4000, 4000, 8, 2, _compress_zeros(4000 * 12001)))
