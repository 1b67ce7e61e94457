"""The formats of image files, by their first bytes."""

from __future__ import annotations

import re

# Few formats on purpose: each decoder processes untrusted input.
_MAGIC = (
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("WEBP", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    ("GIF", re.compile(rb"GIF8[79]a")),
    ("BMP", re.compile(rb"BM")),
    ("TIFF", re.compile(rb"II\*\0|MM\0\*")),
    ("PPM", re.compile(rb"P[1-6]\s")),
    ("AVIF", re.compile(rb"....ftyp(?:avif|(?:mif1|miaf)(?:....){1,16}?avif)", re.DOTALL)),
    ("HEIC", re.compile(rb"....ftyp(?:hei[cx]|mif1(?:....){1,16}?hei[cx])", re.DOTALL)),
)
_FORMATS = "PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF, HEIC, PGM and PPM"
_KNOWN_UNREADABLE = (
    ("a HEIC image sequence", re.compile(rb"....ftyp(?:hev[cmsx]|msf1)", re.DOTALL)),
    ("a HEIF image of another codec than HEVC", re.compile(rb"....ftyp(?:hei[fms]|mif1|miaf)", re.DOTALL)),
    ("a JPEG XL image", re.compile(rb"\xff\x0a|\0\0\0\x0cJXL ")),
    ("a JPEG 2000 image", re.compile(rb"\0\0\0\x0cjP {2}|\xff\x4f\xff\x51")),
    ("an SVG drawing", re.compile(rb"\s*(?:<\?xml.*)?<svg", re.DOTALL)),
    ("a PDF document", re.compile(rb"%PDF")),
    ("a DICOM file", re.compile(rb".{128}DICM", re.DOTALL)),
    ("a NumPy array", re.compile(rb"\x93NUMPY")),
)
PILLOW_NAMES = {"HEIC": "HEIF"}  # where Pillow has another name


def detect_format(data: bytes) -> str:
    """The content decides: a declared media type or a suffix is often a guess of the sender.

    Raises ValueError for any other format.
    """
    for name, magic in _MAGIC:
        if magic.match(data):
            return name
    for name, magic in _KNOWN_UNREADABLE:
        if magic.match(data):
            raise ValueError(f"is {name}, which is not read; convert it to PNG")
    raise ValueError(f"is not an image of a known format ({_FORMATS} are read); remove it or convert it to PNG")


def is_readable(head: bytes) -> bool:
    """Whether a file begins like an image of a format that is read."""
    return any(magic.match(head) for _, magic in _MAGIC)
