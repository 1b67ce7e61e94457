"""Decoding of untrusted image files: check the header, then decode to 8-bit RGB, losing nothing without a note.

`decode` converts, as plain images need it, and its notes name each conversion. `decode_exact` refuses what it would
have to convert, because a converted ciphertext is another image than the one that its scheme made.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from unveil.models.core.images import Images
from unveil.models.data import formats, heic_files, jpeg_files, png_files, pnm_files, tiff_files

_FRAMES = {"TIFF": "has several pages", "HEIC": "has several images"}
_TURN_BY_ORIENTATION: dict[int, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    2: np.fliplr,
    3: lambda values: np.rot90(values, 2),
    4: np.flipud,
    5: lambda values: values.swapaxes(0, 1),
    6: lambda values: np.rot90(values, -1),
    7: lambda values: np.rot90(values, 2).swapaxes(0, 1),
    8: np.rot90,
}
_EXIF_ORIENTATION_TAG = 0x0112
_TIFF_BITS, _TIFF_COMPRESSION, _TIFF_PHOTOMETRIC = 258, 259, 262
_TIFF_LOSSLESS = frozenset({1, 5, 8, 32773, 32946, 50000})  # none, LZW, deflate, PackBits, deflate, zstd
_GREY_NOTE = "grey became RGB"
_TURNED_NOTE = "turned as its EXIF orientation says"


class ImageError(ValueError):
    """The file is rejected; the message says why and what to do. The code is that of a problem of the API."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


@dataclass(frozen=True)
class DecodeResult:
    pixels: Images  # [H, W, 3]
    notes: list[str] = field(default_factory=list)  # conversions, and what was ignored
    bits: int | None = None  # that the values of a 16-bit file need; they were scaled from it
    text: dict[str, str] = field(default_factory=dict)  # the text chunks of a PNG
    has_checksum: bool = False  # without one, values that were overwritten go unnoticed


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


@dataclass
class _Raster:
    """Decoded values before they become 8-bit RGB."""

    values: npt.NDArray[Any]  # uint8 or uint16, [H, W] or [H, W, 3]
    alpha: npt.NDArray[np.uint8] | None = None  # [H, W]
    conversions: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    text: dict[str, str] = field(default_factory=dict)
    has_checksum: bool = False


def inspect(data: bytes, *, max_pixels: int = 2**28) -> InspectedImage:
    """Read the header. Raises ImageError."""
    if not data:
        raise ImageError("broken_image", "is empty")
    try:
        format = formats.detect_format(data)
    except ValueError as error:
        raise ImageError("unsupported_image", str(error)) from None
    file = InspectedImage(data, format, _open_image(data, format))
    if file.pixels > max_pixels:
        width, height = file.image.size
        raise ImageError(
            "image_too_large", f"is {width}x{height}; at most {max_pixels} pixels are taken: scale it down"
        )
    # MPO: a JPEG with several views, as many phones write
    if file.image.format != "MPO" and _count_frames(file.image) > 1:
        kind = _FRAMES.get(format, "is animated")
        raise ImageError("animated_image", f"{kind}; send its frames as single images")
    return file


def decode(file: InspectedImage, *, min_bits: int = 8) -> DecodeResult:
    """Convert any supported file to 8-bit RGB.

    min_bits: take 16-bit values for at least this many bits, so that files of one dataset are scaled alike. Raises
    ImageError.
    """
    with closing(file.image):
        return _to_result(_read_raster(file), min_bits)


def decode_exact(file: InspectedImage) -> DecodeResult:
    """The pixels that the file stores without loss, 8-bit grey or RGB and nothing else. Raises ImageError."""
    with closing(file.image):
        if _is_lossy(file):
            reasons = [f"{'an' if file.format == 'AVIF' else 'a'} {file.format} file loses detail"]
        else:
            raster = _read_raster(file)
            result = _to_result(raster, 8)
            reasons = [*raster.conversions]
            if not reasons:
                return result
    raise ImageError(
        "not_exact",
        f"would be changed ({'; '.join(reasons)}); save the image as its scheme made it, as an 8-bit grey or RGB PNG",
    )


def _open_image(data: bytes, format: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # The limit on pixels is checked right after; other warnings concern metadata that is not used.
            warnings.simplefilter("ignore")
            if format == "HEIC":
                heic_files.register_reader()
            return Image.open(io.BytesIO(data), formats=(formats.PILLOW_NAMES.get(format, format),))
    except ImportError:
        raise ImageError("unsupported_image", "is a HEIC image; install pi-heif, or convert it to PNG") from None
    except Image.DecompressionBombError:
        raise ImageError("image_too_large", "has far too many pixels: scale it down") from None
    except UnidentifiedImageError:
        raise ImageError("broken_image", f"begins like a {format} but cannot be read as one; save it anew") from None
    except Exception as error:  # decoders raise struct.error, SyntaxError, MemoryError and others
        raise _broken_image_error(error) from None


def _count_frames(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception as error:
        raise _broken_image_error(error) from None


@contextmanager
def _damage_refused() -> Iterator[None]:
    """The ValueError of a reader says what is damaged."""
    try:
        yield
    except ValueError as error:
        raise ImageError("broken_image", f"{error}; save it anew") from None


def _broken_image_error(error: Exception) -> ImageError:
    return ImageError("broken_image", f"cannot be decoded ({str(error)[:100] or type(error).__name__}); save it anew")


# --- from a file to values --------------------------------------------------------------------------------------


def _read_raster(file: InspectedImage) -> _Raster:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            raster = _READERS.get(file.format, _read_other)(file)
            return _turn_upright(raster, _read_orientation(file.image))
    except ImageError:
        raise
    except Exception as error:
        raise _broken_image_error(error) from None


def _read_png(file: InspectedImage) -> _Raster:
    with _damage_refused():
        png = png_files.read_png(file.data)
    if png.depth == 16:
        channels = png_files.read_16_bit(file.data, png)
        raster = _Raster(channels)
        if png.has_alpha:
            raster = _Raster(channels[..., :-1], (channels[..., -1] >> 8).astype(np.uint8))
        if raster.values.shape[2] == 1:
            raster.values = raster.values[..., 0]
    else:
        raster = _read_pillow(file.image)
        if png.depth < 8 and file.image.mode != "P":
            raster.conversions.append(_scaled_note(png.depth))
    if png.transparent_colour is not None:
        scale = 255 // (2**png.depth - 1) if png.depth < 8 else 1
        key = np.array(png.transparent_colour) * scale
        matches = raster.values == key
        raster.alpha = np.where(matches.all(2) if matches.ndim == 3 else matches, 0, 255).astype(np.uint8)
    raster.ignored += png.notes
    raster.has_checksum = True
    raster.text = {key: str(text) for key, text in getattr(file.image, "text", {}).items()}
    return raster


def _read_jpeg(file: InspectedImage) -> _Raster:
    with _damage_refused():
        data, notes = jpeg_files.check_jpeg(file.data)
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        raster = _read_pillow(image)
    if file.image.format == "MPO":
        raster.conversions.append("the first of several pictures was used")
    raster.ignored += notes
    return raster


def _read_tiff(file: InspectedImage) -> _Raster:
    tags: Any = getattr(file.image, "tag_v2", {})
    bits, photometric = tags.get(_TIFF_BITS, (1,)), tags.get(_TIFF_PHOTOMETRIC)
    wide_grey = file.image.mode.startswith("I;16") and photometric != 0
    if max(bits) > 8 and not wide_grey:
        raise ImageError("unsupported_image", f"is a TIFF of {max(bits)}-bit values; save it as PNG")
    turned = _read_orientation(file.image) != 1
    with _damage_refused():
        has_checksum = tiff_files.check_deflate(file.data, tags)
    raster = _read_pillow(file.image)
    raster.has_checksum = has_checksum
    if turned:  # by Pillow, as it loads a TIFF
        raster.conversions.append(_TURNED_NOTE)
    if min(bits) < 8:
        raster.conversions.append(_scaled_note(min(bits)))
    if photometric not in (1, 2, 3):
        raster.conversions.append("the colours were converted to RGB")
    return raster


def _read_pnm(file: InspectedImage) -> _Raster:
    top = pnm_files.largest_value(file.data)
    if top > 255:
        with _damage_refused():
            values = pnm_files.read_wide(file.data)
        if top == 2**16 - 1:
            return _Raster(values)
        scaled = (values.astype(np.uint32) * 255 + top // 2) // top
        raster = _Raster(np.minimum(scaled, 255).astype(np.uint8))
    else:
        raster = _read_pillow(file.image)
    if top != 255:
        raster.conversions.append(f"values of 0 to {top} were scaled to 8 bits")
    return raster


def _read_heic(file: InspectedImage) -> _Raster:
    bits, turned = heic_files.stored_bits(file.image), heic_files.was_turned(file.image)
    raster = _read_pillow(file.image)
    if bits > 8:
        raster.conversions.append(_scaled_note(bits))
    if turned:
        raster.conversions.append(_TURNED_NOTE)
    return raster


def _read_other(file: InspectedImage) -> _Raster:
    raster = _read_pillow(file.image)
    if file.format == "BMP" and file.data[28] not in (8, 24) and file.image.mode != "RGBA":
        raster.conversions.append(f"{file.data[28]} bits a pixel became 24")
    at = file.data.find(b"av1C")
    if file.format == "AVIF" and at > 0 and file.data[at + 6 : at + 7] and file.data[at + 6] & 0x40:
        raster.conversions.append(_scaled_note(12 if file.data[at + 6] & 0x20 else 10))
    return raster


_READERS = {"PNG": _read_png, "JPEG": _read_jpeg, "TIFF": _read_tiff, "HEIC": _read_heic, "PPM": _read_pnm}


def _read_pillow(image: Image.Image) -> _Raster:
    image.load()
    raster = _Raster(np.empty(0, np.uint8))
    if image.format != "PNG" and "icc_profile" in image.info:
        raster.ignored.append("the colour profile was ignored")
    if image.mode.startswith("I;16"):
        raster.values = np.asarray(image).astype(np.uint16)
        return raster
    if image.mode in ("I", "F"):
        raise ImageError("unsupported_image", "holds 32-bit values; save it as PNG")
    palette = image.mode in ("P", "PA")
    if palette:
        raster.conversions.append("a palette became RGB")
    elif image.mode not in ("1", "L", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX"):
        raster.conversions.append(f"{image.mode} became RGB")
    if image.mode in ("LA", "La", "RGBA", "RGBa", "PA") or (palette and "transparency" in image.info):
        rgba = np.array(image.convert("RGBA"))
        raster.alpha = rgba[..., 3]
        raster.values = rgba[..., 0] if image.mode in ("LA", "La") else rgba[..., :3]
    else:
        raster.values = np.array(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    return raster


def _turn_upright(raster: _Raster, orientation: int) -> _Raster:
    turn = _TURN_BY_ORIENTATION.get(orientation)
    if turn is not None:
        raster.values = turn(raster.values)
        raster.alpha = None if raster.alpha is None else turn(raster.alpha)
        raster.conversions.append(_TURNED_NOTE)
    return raster


def _read_orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION_TAG, 1))
    except Exception:  # broken EXIF data is ignored
        return 1


# --- from values to 8-bit RGB -----------------------------------------------------------------------------------


def _to_result(raster: _Raster, min_bits: int) -> DecodeResult:
    bits = None
    if raster.values.dtype == np.uint16:
        bits = max(min_bits, _needed_bits(int(raster.values.max(initial=0))))
        raster.values = (raster.values >> (bits - 8)).astype(np.uint8)
        raster.conversions.append(_scaled_note(bits) if bits > 8 else "16-bit values below 256 were taken as they are")
    if raster.alpha is not None:
        raster.conversions.append("transparency was composited onto white")
        raster.values = _onto_white(raster.values, raster.alpha)
    if raster.values.ndim == 2:
        raster.values = np.repeat(raster.values[..., None], 3, axis=2)
        raster.ignored.insert(0, _GREY_NOTE)
    notes = [*raster.conversions, *raster.ignored]
    return DecodeResult(np.ascontiguousarray(raster.values), notes, bits, raster.text, raster.has_checksum)


def _needed_bits(largest: int) -> int:
    """Files of 16-bit values often hold fewer bits, as cameras and scanners deliver them: 8, 10, 12, 14 or 16."""
    return max(8, (largest.bit_length() + 1) // 2 * 2)


def _scaled_note(bits: int) -> str:
    return f"{bits} bits a channel were scaled to 8"


def _onto_white(values: npt.NDArray[np.uint8], alpha: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    opacity = (alpha[..., None] if values.ndim == 3 else alpha).astype(np.uint32)
    return ((values * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)


def _is_lossy(file: InspectedImage) -> bool:
    if file.format == "WEBP":
        return _has_webp_chunk(file.data, b"VP8 ")
    if file.format == "TIFF":
        tags: Any = getattr(file.image, "tag_v2", {})
        return tags.get(_TIFF_COMPRESSION, 1) not in _TIFF_LOSSLESS
    return file.format in ("JPEG", "AVIF", "HEIC")


def _has_webp_chunk(data: bytes, kind: bytes) -> bool:
    offset = 12
    while offset + 8 <= len(data) and data[offset : offset + 4] != kind:
        size = int.from_bytes(data[offset + 4 : offset + 8], "little")
        offset += 8 + size + size % 2
    return offset + 8 <= len(data)
