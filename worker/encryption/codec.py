"""Decoding of untrusted image files: check the header, then decode to 8-bit RGB.

An ImageError has the code of a problem of the API (app/encryption/service.py); the caller adds the name of the file.
"""

from __future__ import annotations

import io
import re
import warnings
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, UnidentifiedImageError

from unveil.models.core.images import Images
from unveil.models.data.image_files import has_transparency, to_rgb
from unveil.worker.encryption import png_integrity

ORIGINAL_SIZE_KEY = "unveil:original"  # the PNG text chunk that holds the size before padding, "97x101"

# Few formats on purpose: each decoder processes untrusted input.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_MAGIC = (
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("WEBP", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    ("GIF", re.compile(rb"GIF8[79]a")),
    ("BMP", re.compile(rb"BM")),
)
_FORMAT_BY_MEDIA_TYPE = {
    "image/png": "PNG", "image/apng": "PNG", "image/jpeg": "JPEG", "image/jpg": "JPEG", "image/pjpeg": "JPEG",
    "image/webp": "WEBP", "image/gif": "GIF", "image/bmp": "BMP", "image/x-ms-bmp": "BMP",
}  # fmt: skip
_GENERIC_MEDIA_TYPES = ("", "application/octet-stream")
_TRANSPOSE_BY_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_EXIF_ORIENTATION_TAG = 0x0112
# The decoder visits every block once per scan, and an empty scan takes a dozen bytes. Progressive files have about ten
# scans, files with several views a multiple of that.
_JPEG_SCAN_MARKER, _MAX_JPEG_SCANS = b"\xff\xda", 200
_SIZE_PATTERN = re.compile(r"([1-9][0-9]{0,9})x([1-9][0-9]{0,9})")


class ImageError(ValueError):
    """The file is rejected; the message says why and what to do."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


@dataclass(frozen=True)
class DecodeResult:
    pixels: Images  # [H, W, 3]
    notes: list[str] = field(default_factory=list)  # conversions


@dataclass(frozen=True)
class InspectedImage:
    """An acceptable file whose header was read. Decode it once: decoding closes the image."""

    data: bytes
    format: str
    image: Image.Image

    @property
    def pixels(self) -> int:
        width, height = self.image.size
        return width * height


def inspect(data: bytes, media_type: str = "", *, max_pixels: int) -> InspectedImage:
    """Read the header. Raises ImageError."""
    format = _detect_format(data, media_type)
    file = InspectedImage(data, format, _open_image(data, format))
    if file.pixels > max_pixels:
        width, height = file.image.size
        raise ImageError(
            "image_too_large", f"is {width}x{height}; at most {max_pixels} pixels are taken: scale it down"
        )
    # MPO: a JPEG with several views, as many phones write
    if file.image.format != "MPO" and _count_frames(file.image) > 1:
        raise ImageError("animated_image", "is animated; send its frames as single images")
    return file


def decode(file: InspectedImage) -> DecodeResult:
    """Convert any supported file to 8-bit RGB. Raises ImageError."""
    _check_complete(file)
    with closing(file.image) as image:
        notes = ["the first of several pictures was used"] if image.format == "MPO" else []
        orientation = _read_orientation(image)
        if "icc_profile" in image.info:
            notes.append("the colour profile was ignored")
        _load(image)
        oriented = image
        if orientation in _TRANSPOSE_BY_ORIENTATION:
            oriented = image.transpose(_TRANSPOSE_BY_ORIENTATION[orientation])
            oriented.info = dict(image.info)
            notes.append("turned as its EXIF orientation says")
        return DecodeResult(_to_rgb(oriented, _is_16_bit(file.data), notes), notes)


def decode_lossless(file: InspectedImage) -> tuple[Images, tuple[int, int] | None]:
    """Decode an encrypted image without conversion: pixels [H, W, 3], and (width, height) before padding if stored.

    Raises ImageError.
    """
    if file.format != "PNG":
        raise ImageError("not_exact", f"is a {file.format}; decryption needs the PNG that encryption gave, bit for bit")
    if file.data[24:26] != b"\x08\x02":
        raise ImageError(
            "not_exact", "is not an 8-bit RGB PNG; send the file that encryption gave, not a converted one"
        )
    _check_complete(file)
    with closing(file.image) as image:
        _load(image)
        if image.mode != "RGB" or "transparency" in image.info:
            raise ImageError("not_exact", "has transparency; send the file that encryption gave, not a converted one")
        text = image.info.get(ORIGINAL_SIZE_KEY)
        return np.array(image), None if text is None else _parse_original_size(str(text), *image.size)


def _detect_format(data: bytes, media_type: str) -> str:
    if not data:
        raise ImageError("broken_image", "is empty")
    format = next((name for name, magic in _MAGIC if magic.match(data)), None)
    if format is None:
        raise ImageError("unsupported_image", "is not a PNG, JPEG, WebP, GIF or BMP image; remove it or convert it")
    media_type = media_type.partition(";")[0].strip().lower()
    if media_type not in _GENERIC_MEDIA_TYPES and _FORMAT_BY_MEDIA_TYPE.get(media_type) != format:
        raise ImageError(
            "unsupported_image", f"is declared as {media_type[:60]!r} but holds a {format}; name it as what it is"
        )
    return format


def _open_image(data: bytes, format: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # The limit on pixels is checked right after; other warnings concern metadata that is not used.
            warnings.simplefilter("ignore")
            return Image.open(io.BytesIO(data), formats=(format,))
    except Image.DecompressionBombError:
        raise ImageError("image_too_large", "has far too many pixels: scale it down") from None
    except UnidentifiedImageError:
        raise ImageError("broken_image", f"begins like a {format} but cannot be read as one; save it anew") from None
    except Exception as error:  # decoders raise struct.error, SyntaxError, MemoryError and others
        raise _broken_image_error(error) from None


def _check_complete(file: InspectedImage) -> None:
    if file.format == "JPEG" and file.data.count(_JPEG_SCAN_MARKER) > _MAX_JPEG_SCANS:
        raise ImageError("broken_image", f"has more than {_MAX_JPEG_SCANS} scans; save it anew")
    if file.format == "PNG":
        try:
            png_integrity.check_png_complete(file.data)
        except ValueError as error:
            raise ImageError("broken_image", f"{error}; save it anew") from None


def _load(image: Image.Image) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
    except Exception as error:
        raise _broken_image_error(error) from None


def _broken_image_error(error: Exception) -> ImageError:
    return ImageError("broken_image", f"cannot be decoded ({str(error)[:100] or type(error).__name__}); save it anew")


def _count_frames(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception as error:
        raise _broken_image_error(error) from None


def _read_orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION_TAG, 1))
    except Exception:  # broken EXIF data is ignored
        return 1


def _is_16_bit(data: bytes) -> bool:
    return data.startswith(b"\x89PNG") and data[24] == 16


def _to_rgb(image: Image.Image, is_16_bit: bool, notes: list[str]) -> Images:
    if is_16_bit:
        notes.append("16 bits a channel were scaled to 8")
    if image.mode == "CMYK":
        notes.append("CMYK became RGB")
    elif image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I"):
        notes.append("grey became RGB")
    if has_transparency(image):
        notes.append("transparency was dropped onto white")
    return to_rgb(image)


def _parse_original_size(text: str, width: int, height: int) -> tuple[int, int]:
    match = _SIZE_PATTERN.fullmatch(text)
    original = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (1 <= original[0] <= width and 1 <= original[1] <= height):
        raise ImageError("not_exact", f"says that its original size was {text[:20]!r}, which it cannot hold")
    return original
