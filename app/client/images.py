"""Images on their way in (paths, bytes, arrays) and out (bytes with what the service says of them)."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

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
        with PIL.Image.open(io.BytesIO(self.data)) as image:
            return np.asarray(image.convert("RGB"))

    def save(self, path: str | Path) -> Path:
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

    def __getitem__(self, index: Any) -> Any:
        return self.images[index]

    @property
    def key_ids(self) -> list[str]:
        """The key of each image, in order: `decrypt` takes this."""
        return [image.key_id for image in self.images]


# What `encrypt` and `decrypt` take for one image.
Source = str | Path | bytes | Pixels | Image


def part(source: Source, index: int) -> tuple[str, bytes] | tuple[str, bytes, str]:
    """File name and bytes of one image to send; its type where the name may be that of a file it was made from."""
    if isinstance(source, Image):
        return source.filename, source.data, source.media_type
    if isinstance(source, bytes):
        return f"image-{index}", source
    if isinstance(source, np.ndarray):
        buffer = io.BytesIO()
        PIL.Image.fromarray(source).save(buffer, "PNG", compress_level=1)
        return f"image-{index}.png", buffer.getvalue()
    path = Path(source)
    return path.name, path.read_bytes()


def parse_images(body: dict[str, Any]) -> Images:
    images = tuple(
        Image(
            filename=item["filename"],
            key_id=item["key_id"],
            width=item["width"],
            height=item["height"],
            original_width=item["original_width"],
            original_height=item["original_height"],
            data=base64.b64decode(item["data"]),
            media_type=item["media_type"],
            notes=tuple(item.get("notes", ())),
        )
        for item in body["images"]
    )
    return Images(body["scheme"], body["params"], images)
