"""Images as arguments (paths, bytes, arrays) and as results (PNG bytes with their metadata)."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, TypeGuard, overload

import pybase64

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import PIL.Image

    Pixels: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Image:
    """An image in a response: lossless PNG bytes and the key that encrypted or decrypted it."""

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
        """Write the PNG to a file."""
        path = Path(path)
        path.write_bytes(self.data)
        return path


@dataclass(frozen=True)
class Images(Sequence[Image]):
    """The response to `encrypt` and `decrypt`: the images, in the order of the request, and the scheme."""

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
        import numpy as np

        sizes = {(image.width, image.height) for image in self.images}
        if len(sizes) > 1:
            raise ValueError(f"images of {len(sizes)} sizes cannot form one array; use the pixels of each image")
        return np.stack([image.pixels for image in self.images])


# One image for `encrypt` and `decrypt`, and what they take: one, several, or an array or a tensor of several.
ImageSource: TypeAlias = "str | Path | bytes | bytearray | memoryview | BinaryIO | Pixels | PIL.Image.Image | Image"
ImageSources: TypeAlias = "ImageSource | Iterable[ImageSource]"
_SINGLE_KINDS = (str, Path, bytes, bytearray, memoryview, Image)


def as_list(sources: ImageSources) -> list[ImageSource]:
    """The images one by one. An array is one image ([H, W] or [H, W, 3]) or many ([N, H, W, 3])."""
    if hasattr(sources, "cpu"):  # a tensor of PyTorch, which the client does not import
        sources = _tensor_to_array(sources)
    if _is_array(sources):
        return list(sources) if sources.ndim == 4 else [sources]
    if isinstance(sources, _SINGLE_KINDS) or _is_pil_image(sources) or hasattr(sources, "read"):
        return [sources]  # type: ignore[list-item]
    if not isinstance(sources, Iterable):
        raise _unknown_source_error(sources)
    return list(sources)


def _is_array(source: Any) -> TypeGuard[Pixels]:
    numpy = sys.modules.get("numpy")  # the caller of an array has imported it
    return numpy is not None and isinstance(source, numpy.ndarray)


def _is_pil_image(source: Any) -> TypeGuard[PIL.Image.Image]:
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(source, module.Image)


def _tensor_to_array(tensor: Any) -> Pixels:
    """uint8 [N, 3, H, W] or [3, H, W], as torchvision has images, becomes channels-last."""
    array: Pixels = tensor.detach().cpu().numpy()
    if array.ndim >= 3 and array.shape[-3] in (1, 3, 4) and array.shape[-1] not in (3, 4):
        import numpy as np

        array = np.moveaxis(array, -3, -1)
    return array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array


def _unknown_source_error(source: Any) -> TypeError:
    return TypeError(
        "an image is a path, the bytes or an open file of an image, a PIL image, or a uint8 array or tensor; "
        f"got {type(source).__name__}"
    )


MultipartFile = tuple[str, bytes] | tuple[str, bytes, str]


def to_multipart(source: ImageSource, index: int) -> MultipartFile:
    """File name and bytes of one image to send; its type where the name may be that of a file it was made from."""
    if isinstance(source, Image):
        return source.filename, source.data, source.media_type
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"image-{index}", bytes(source)
    if hasattr(source, "cpu"):
        source = _tensor_to_array(source)
    if _is_array(source):
        return f"image-{index}.png", encode_png(source)
    if _is_pil_image(source):
        return f"image-{index}.png", _save_png(source)
    if isinstance(source, (str, Path)):
        return to_utf8_name(Path(source).name), Path(source).read_bytes()
    if hasattr(source, "read"):
        data = source.read()
        if not isinstance(data, bytes):
            raise TypeError("open the image file in binary mode: open(path, 'rb')")
        return to_utf8_name(Path(str(getattr(source, "name", f"image-{index}"))).name), data
    raise _unknown_source_error(source)


def to_utf8_name(name: str) -> str:
    """The name of a file whose bytes need not be UTF-8, each other byte as %E9."""
    return "".join(f"%{ord(letter) - 0xDC00:02X}" if 0xDC80 <= ord(letter) <= 0xDCFF else letter for letter in name)


def read_key_id(source: ImageSource) -> str | None:
    """The key that a protected PNG names; None without one."""
    if isinstance(source, Image):
        return source.key_id
    if isinstance(source, (bytes, bytearray, memoryview)):
        source = io.BytesIO(source)
    elif not isinstance(source, (str, Path)):
        return None
    import PIL.Image

    try:
        with PIL.Image.open(source) as image:
            image.load()  # text may stand after the pixels
            return image.info.get("unveil:key")
    except (OSError, ValueError, SyntaxError):  # the service says what is wrong with it
        return None


def _save_png(image: PIL.Image.Image) -> bytes:
    buffer = io.BytesIO()
    try:
        image.save(buffer, "PNG", compress_level=1)
    except OSError:
        raise ValueError(f"a PIL image of mode {image.mode} has no PNG form; convert it to RGB") from None
    return buffer.getvalue()


def encode_png(pixels: Pixels) -> bytes:
    """The array as a PNG. Raises ValueError if it is not an 8-bit image."""
    import numpy as np
    import PIL.Image

    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))):
        raise ValueError(
            f"an image is uint8 [height, width], [height, width, 3] or [height, width, 4]; "
            f"got {pixels.dtype} {list(pixels.shape)}"
        )
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def decode_rgb(data: bytes) -> Pixels:
    import numpy as np
    import PIL.Image

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
