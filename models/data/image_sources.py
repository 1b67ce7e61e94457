"""Images in the forms in which callers hold them: arrays, tensors, PIL images, datasets, folders and files.

Imports no torch: tensors and datasets are recognized by what they can do.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from unveil.models.core.images import Images, quantise
from unveil.models.data.arrays import load_arrays
from unveil.models.data.decoding import decode, inspect
from unveil.models.data.folders import read_folder_images
from unveil.models.data.image_dataset import DatasetUnreadable, Labels
from unveil.models.data.sample import sample

EXPECTED = (
    "give a uint8 array [N, height, width, 3], a list of PIL images, a folder of images, a .npy or .npz file, "
    "a torch tensor or dataset, or 'sample'"
)
_SAMPLE = "sample"  # the bundled images, as in the service
_MAX_LISTED = 3  # sizes named in an error
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


@dataclass(frozen=True)
class SourceImages:
    """Images uint8 [N, H, W, 3] as read. labels: int64 [N] where the source has them. notes: each conversion.

    names: of the files of a folder, whose order means nothing; None where the position of an image identifies it.
    """

    images: Images
    labels: Labels | None = None
    name: str = "images"
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] | None = None


def read_images(source: Any, name: str = "images", *, may_resize: bool = True) -> SourceImages:
    """Read images from any supported source. name: of the argument, for errors. Raises ValueError, OSError.

    may_resize: whether images of a folder that are not square or differ in size become 96x96.
    """
    if isinstance(source, SourceImages):
        return source
    if isinstance(source, str | Path):
        return _read_path(Path(source), name, may_resize)
    if _is_tensor(source):
        return _from_array(_to_numpy(source), name, channels_first=True)
    if isinstance(source, np.ndarray):
        return _from_array(source, name)
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        return _from_items(source, name)
    raise ValueError(f"{name} is a {type(source).__name__}; {EXPECTED}")


def _read_path(path: Path, name: str, may_resize: bool) -> SourceImages:
    if str(path) == _SAMPLE and not path.exists():
        bundled = sample()
        return SourceImages(np.concatenate([bundled.test, bundled.train]), name=_SAMPLE)
    if path.is_dir():
        return _read_folder(path, name, may_resize)
    if path.suffix == ".npy":
        with path.open("rb") as file:
            return _from_array(load_arrays(str(path), file)["images"], str(path))
    if path.suffix == ".npz":
        return _read_npz(path)
    if not path.exists():
        raise FileNotFoundError(2, "No such file or directory", str(path))
    raise ValueError(f"{name}: {path} is neither a folder nor a .npy or .npz file; {EXPECTED}")


def _read_npz(path: Path) -> SourceImages:
    with path.open("rb") as file:
        arrays = load_arrays(str(path), file)
    image_keys = [key for key, array in arrays.items() if array.ndim == 4]
    if len(image_keys) != 1 and "images" not in arrays:
        raise ValueError(
            f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}; name the array of images `images`, "
            "and its labels, if any, `labels`"
        )
    read = _from_array(arrays["images" if "images" in arrays else image_keys[0]], str(path))
    return SourceImages(read.images, _check_labels(arrays.get("labels"), read.images), path.stem, read.notes)


def _read_folder(folder: Path, name: str, may_resize: bool) -> SourceImages:
    try:
        read = read_folder_images(folder, may_resize=may_resize)
    except DatasetUnreadable as error:
        raise ValueError(f"{name}: {error}") from error
    return SourceImages(
        read.images, read.labels if len(read.classes) > 1 else None, folder.name, read.notes, read.names
    )


def _from_items(items: Any, name: str) -> SourceImages:
    """A list of images, or a dataset of images or of (image, label) pairs."""
    if not len(items):
        raise ValueError(f"{name} holds no image; {EXPECTED}")
    images, labels, notes = [], [], dict[str, None]()
    for index, item in enumerate(_iterate(items)):
        image, label = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
        read = _one_image(image, f"{name}[{index}]")
        images.append(read.images[0])
        notes.update(dict.fromkeys(read.notes))
        if label is not None:
            labels.append(int(label))
    sizes = list(dict.fromkeys(f"{image.shape[1]}x{image.shape[0]}" for image in images))
    if len(sizes) > 1:
        more = ", ..." if len(sizes) > _MAX_LISTED else ""
        raise ValueError(f"{name}: images must have one size; got {', '.join(sizes[:_MAX_LISTED])}{more}: resize them")
    return SourceImages(
        np.stack(images), np.array(labels, np.int64) if len(labels) == len(images) else None, notes=tuple(notes)
    )


def _iterate(items: Any) -> Iterator[Any]:
    return (items[index] for index in range(len(items)))


def _one_image(image: Any, name: str) -> SourceImages:
    if isinstance(image, Image.Image):
        return _decode(_to_png(image))
    if isinstance(image, str | Path):
        return _decode(Path(image).read_bytes())
    array = _to_numpy(image) if _is_tensor(image) else image
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{name} is a {type(image).__name__}; {EXPECTED}")
    return _from_array(array[None], name, channels_first=_is_tensor(image))


def _decode(file: bytes) -> SourceImages:
    decoded = decode(inspect(file))
    return SourceImages(decoded.pixels[None], notes=tuple(decoded.notes))


def _to_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    (image if image.mode in _PNG_MODES else image.convert("RGB")).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def _from_array(array: npt.NDArray[Any], name: str, *, channels_first: bool = False) -> SourceImages:
    notes: list[str] = []
    if array.ndim == 3:
        array = np.repeat(array[..., None], 3, axis=3)
        notes.append("grey images became RGB")
    elif array.ndim == 4 and channels_first and array.shape[1] in (1, 3):
        array = array.transpose(0, 2, 3, 1)
    if array.ndim == 4 and array.shape[3] == 1:
        array = np.repeat(array, 3, axis=3)
        notes.append("grey images became RGB")
    if array.ndim != 4 or array.shape[3] != 3 or 0 in array.shape:
        hint = ": use array.transpose(0, 2, 3, 1)" if array.ndim == 4 and array.shape[1] == 3 else ""
        raise ValueError(f"{name} must have shape [N, height, width, 3]; got {list(array.shape)}{hint}")
    if np.issubdtype(array.dtype, np.floating):
        array = _scale_floats(array, name)
        notes.append("values in 0..1 were scaled to 0..255 and rounded")
    if array.dtype != np.uint8:
        raise ValueError(f"{name} must be uint8; got {array.dtype}: convert it with .astype(numpy.uint8)")
    return SourceImages(np.ascontiguousarray(array), notes=tuple(notes))


def _scale_floats(array: npt.NDArray[Any], name: str) -> Images:
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # refuses nan too
        raise ValueError(
            f"{name}: float values must lie in 0..1; got {low:g} to {high:g}. Give uint8 in 0..255, or undo the "
            "normalisation first"
        )
    return quantise(array.astype(np.float64) * 255)


def _check_labels(labels: npt.NDArray[Any] | None, images: Images) -> Labels | None:
    if labels is None:
        return None
    if labels.shape != (len(images),):
        raise ValueError(f"labels must have one entry an image; got {list(labels.shape)} for {len(images)} images")
    return labels.astype(np.int64)


def read_labels(labels: Sequence[int] | npt.NDArray[Any] | None, images: Images) -> Labels | None:
    """Labels as given beside images. Raises ValueError."""
    return None if labels is None else _check_labels(np.asarray(labels), images)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach") and hasattr(value, "cpu")


def _to_numpy(tensor: Any) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = tensor.detach().cpu().numpy()
    return array
