"""Images on their way in (paths, bytes, arrays) and out (bytes with what the service says of them)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import PIL.Image
import pybase64

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Image:
    """An image as the service answers it: lossless PNG bytes and the key that made or undid it."""

    filename: str
    key_id: str
    width: int
    height: int
    original_width: int
    original_height: int
    data: bytes = field(repr=False)
    media_type: str = "image/png"
    notes: tuple[str, ...] = ()

    @property
    def pixels(self) -> Pixels:
        """uint8 [height, width, 3]."""
        return decode_rgb(self.data)

    def save(self, path: str | Path) -> Path:
        """Write the PNG there."""
        path = Path(path)
        path.write_bytes(self.data)
        return path


@dataclass(frozen=True)
class Images(Sequence[Image]):
    """The answer of `encrypt` and `decrypt`: the images, in the order given, and the scheme that was used."""

    scheme: str
    params: dict[str, Any]
    images: tuple[Image, ...]

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Image]:
        return iter(self.images)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Image, ...]: ...
    def __getitem__(self, index: int | slice) -> Image | tuple[Image, ...]:
        return self.images[index]

    @property
    def key_ids(self) -> list[str]:
        """The key of each image, in order: `decrypt` takes this."""
        return [image.key_id for image in self.images]

    @property
    def pixels(self) -> Pixels:
        """uint8 [images, height, width, 3]. Raises ValueError where sizes differ."""
        sizes = {(image.width, image.height) for image in self.images}
        if len(sizes) > 1:
            raise ValueError(f"images of {len(sizes)} sizes make no one array; take the pixels of each")
        return np.stack([image.pixels for image in self.images])


# One image for `encrypt` and `decrypt`, and what they take: one, several, or an array of several.
ImageSource = str | Path | bytes | Pixels | Image
ImageSources = ImageSource | Sequence[ImageSource]


def as_list(sources: ImageSources) -> list[ImageSource]:
    """The images one by one. An array is one image ([H, W] or [H, W, 3]) or many ([N, H, W, 3])."""
    if isinstance(sources, np.ndarray):
        return list(sources) if sources.ndim == 4 else [sources]
    if isinstance(sources, (str, Path, bytes, Image)):
        return [sources]
    return list(sources)


MultipartFile = tuple[str, bytes] | tuple[str, bytes, str]


def to_multipart(source: ImageSource, index: int) -> MultipartFile:
    """File name and bytes of one image to send; its type where the name may be that of a file it was made from."""
    if isinstance(source, Image):
        return source.filename, source.data, source.media_type
    if isinstance(source, bytes):
        return f"image-{index}", source
    if isinstance(source, np.ndarray):
        return f"image-{index}.png", encode_png(source)
    path = Path(source)
    return path.name, path.read_bytes()


def encode_png(pixels: Pixels) -> bytes:
    """The array as a PNG. Raises ValueError for what is no 8-bit picture."""
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))):
        raise ValueError(
            f"an image is uint8 [height, width], [height, width, 3] or [height, width, 4]; "
            f"got {pixels.dtype} {list(pixels.shape)}"
        )
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def decode_rgb(data: bytes) -> Pixels:
    with PIL.Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def parse_images(body: Mapping[str, Any]) -> Images:
    images = tuple(
        Image(
            filename=item["filename"],
            key_id=item["key_id"],
            width=item["width"],
            height=item["height"],
            original_width=item["original_width"],
            original_height=item["original_height"],
            data=pybase64.b64decode(item["data"], validate=True),
            media_type=item["media_type"],
            notes=tuple(item.get("notes", ())),
        )
        for item in body["images"]
    )
    return Images(body["scheme"], body["params"], images)
