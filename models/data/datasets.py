"""Data sets: the bundled sample, STL-10 and CIFAR-10 through torchvision, an operator's folders, uploaded archives.

Imports no torch; torchvision and scikit-image are reached inside functions only.
"""

from __future__ import annotations

import importlib.util
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images

Labels = npt.NDArray[np.int64]
Split = Literal["train", "test"]

IMAGE_SIDE = 96
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
_STL10_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
_CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class DatasetMissing(LookupError):
    """The data set is not here; the message says where its files go."""


@dataclass(frozen=True)
class ImageDataset:
    """uint8 images [N, H, W, 3] and int64 labels [N] from 0. Of a protected data set, `*_originals` may be known."""

    name: str
    train: Images
    train_labels: Labels
    test: Images
    test_labels: Labels
    classes: tuple[str, ...]
    train_originals: Images | None = None
    test_originals: Images | None = None
    notes: tuple[str, ...] = ()

    def take(self, train: int | None, test: int | None) -> ImageDataset:
        """The first images of each split. Sets are stored with their classes mixed, so a prefix is balanced."""
        return replace(
            self,
            train=self.train[:train],
            train_labels=self.train_labels[:train],
            train_originals=None if self.train_originals is None else self.train_originals[:train],
            test=self.test[:test],
            test_labels=self.test_labels[:test],
            test_originals=None if self.test_originals is None else self.test_originals[:test],
        )


@dataclass(frozen=True)
class DatasetInfo:
    """What can be said of a data set without reading its images."""

    name: str
    train: int
    test: int
    width: int
    height: int
    classes: tuple[str, ...] = field(default=())
    available: bool = True
    note: str = ""
    labelled: bool = True  # a classifier can be trained on its training images and tested on its test images


def load(name: str, data_dir: Path | None = None) -> ImageDataset:
    """A built-in data set or an operator's folder by name. Raises DatasetMissing."""
    if name == "sample":
        return sample()
    if name in ("stl10", "cifar10"):
        return _torchvision(name, data_dir or default_dir())
    folder = _find_dataset_folders(data_dir).get(name)
    if folder is None:
        raise DatasetMissing(
            f"there is no data set {name!r}; known: {', '.join(d.name for d in list_datasets(data_dir))}"
        )
    return _read_folder(name, folder)


def load_folder(folder: Path) -> ImageDataset:
    """The data set in `folder`: STL-10's binary layout, or class folders. Raises DatasetMissing."""
    if not folder.is_dir():
        raise DatasetMissing(f"there is no folder {folder}")
    return _read_folder(folder.name, folder)


def preview(name: str, data_dir: Path | None, count: int) -> Images:
    """The first images of a set that `load` knows, of the test split where there is one; of a folder, no more is read.
    Raises DatasetMissing."""
    if name == "sample":
        return _sample_test()[0][:count]  # its training images take seconds to make
    folder = (
        (data_dir or default_dir()) / "stl10_binary" if name == "stl10" else _find_dataset_folders(data_dir).get(name)
    )
    if folder is None or not folder.is_dir():
        return load(name, data_dir).test[:count]
    if (folder / "test_X.bin").is_file():
        return _read_binary(folder, "test", count)[0]
    split = folder / "test" if (folder / "test").is_dir() else folder
    return _read_classes(split, tuple(child.name for child in _class_folders(split)), count)[0]


def default_dir() -> Path:
    """Where downloads go when no data folder is set."""
    return Path.home() / ".cache" / "unveil"


def list_datasets(data_dir: Path | None = None) -> list[DatasetInfo]:
    """Every data set that `load` knows, without reading one image."""
    root = data_dir or default_dir()
    note = "downloaded on first use, or put {} into " + str(root)
    stl10, cifar10 = root / "stl10_binary", root / "cifar-10-batches-py"
    listed = [
        DatasetInfo(
            "sample",
            _SAMPLE_TRAIN,
            _SAMPLE_TEST,
            IMAGE_SIDE,
            IMAGE_SIDE,
            _SAMPLE_CLASSES,
            note="a demonstration, works offline",
            labelled=False,  # test and train are cut from different photographs
        ),
        DatasetInfo(
            "stl10", 5000, 8000, 96, 96, _STL10_CLASSES, stl10.is_dir(), note.format("the folder stl10_binary")
        ),
        DatasetInfo(
            "cifar10",
            50000,
            10000,
            32,
            32,
            _CIFAR10_CLASSES,
            cifar10.is_dir(),
            note.format("the folder cifar-10-batches-py"),
        ),
    ]
    return listed + [_folder_info(name, folder) for name, folder in _find_dataset_folders(data_dir).items()]


# --- folders ----------------------------------------------------------------------------------------------------


@cache
def _open_memmap(path: Path, mtime: float) -> npt.NDArray[np.uint8]:  # noqa: ARG001 - a changed file is opened anew
    return np.memmap(path, np.uint8, "r").reshape(-1, 3, IMAGE_SIDE, IMAGE_SIDE)


def _find_dataset_folders(data_dir: Path | None) -> dict[str, Path]:
    if data_dir is None or not data_dir.is_dir():
        return {}
    reserved = {"stl10_binary", "cifar-10-batches-py", "sample", "stl10", "cifar10"}
    folders = {}
    for folder in sorted(data_dir.iterdir()):
        if not folder.is_dir() or folder.name in reserved or folder.name.startswith("."):
            continue
        if (folder / "train_X.bin").is_file() or _class_folders(folder / "train") or _class_folders(folder):
            folders[folder.name] = folder
    return folders


def _class_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [child for child in sorted(folder.iterdir()) if child.is_dir() and any(_image_files(child))]


def _image_files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.suffix.lower() in _SUFFIXES and path.is_file())


def _folder_info(name: str, folder: Path) -> DatasetInfo:
    if (folder / "train_X.bin").is_file():
        train, test = (_binary_count(folder / f"{split}_X.bin") for split in ("train", "test"))
        classes = _class_names(folder)
        return DatasetInfo(name, train, test, IMAGE_SIDE, IMAGE_SIDE, classes, labelled=len(classes) > 1)
    split = (folder / "train").is_dir()
    children = _class_folders(folder / "train" if split else folder)
    total = sum(len(list(_image_files(child))) for child in children)
    names = tuple(child.name for child in children)
    if split:
        test = sum(len(list(_image_files(child))) for child in _class_folders(folder / "test"))
        return DatasetInfo(name, total, test, IMAGE_SIDE, IMAGE_SIDE, names, labelled=len(names) > 1)
    test = total // 5
    return DatasetInfo(name, total - test, test, IMAGE_SIDE, IMAGE_SIDE, names, labelled=len(names) > 1)


def _binary_count(path: Path) -> int:
    return path.stat().st_size // (3 * IMAGE_SIDE * IMAGE_SIDE) if path.is_file() else 0


def _class_names(folder: Path) -> tuple[str, ...]:
    """From class_names.txt, one a line; else the numbers of the labels, where there are labels."""
    names, labels = folder / "class_names.txt", folder / "train_y.bin"
    if names.is_file() or not labels.is_file():
        return tuple(names.read_text().split()) if names.is_file() else ()
    return tuple(str(label) for label in range(1, int(np.fromfile(labels, np.uint8).max(initial=0)) + 1))


def _read_folder(name: str, folder: Path) -> ImageDataset:
    if (folder / "train_X.bin").is_file():
        return ImageDataset(
            name, *_read_binary(folder, "train"), *_read_binary(folder, "test"), classes=_class_names(folder)
        )
    if (folder / "train").is_dir():
        classes = tuple(child.name for child in _class_folders(folder / "train"))
        splits = [_read_classes(folder / split, classes) for split in ("train", "test")]
        return ImageDataset(name, *splits[0], *splits[1], classes=classes)
    classes = tuple(child.name for child in _class_folders(folder))
    images, labels = _read_classes(folder, classes)
    return split_80_20(name, images, labels, classes, seed=0)


def _read_binary(folder: Path, split: Split, count: int | None = None) -> tuple[Images, Labels]:
    """STL-10's layout: uint8 [N, 3, 96, 96], channel-major and column-major; labels from 1. count: of the first."""
    path = folder / f"{split}_X.bin"
    if not path.is_file():
        raise DatasetMissing(f"{folder.name} lacks {split}_X.bin (STL-10's binary layout)")
    images = np.ascontiguousarray(_open_memmap(path, path.stat().st_mtime)[:count].transpose(0, 3, 2, 1))
    labels = folder / f"{split}_y.bin"
    if not labels.is_file():
        return images, np.zeros(len(images), np.int64)
    return images, np.fromfile(labels, np.uint8)[:count].astype(np.int64) - 1


def _read_classes(folder: Path, classes: tuple[str, ...], count: int | None = None) -> tuple[Images, Labels]:
    """Class folders, images centre-cropped and resized to 96x96; classes taken in turn. count: of the first."""
    files = [
        (label, path)
        for label, name in enumerate(classes)
        if (folder / name).is_dir()
        for path in _image_files(folder / name)
    ]
    if not files:
        raise DatasetMissing(f"{folder} holds no images in class folders")
    files = [files[i] for i in interleave_classes([label for label, _ in files])][:count]
    images = np.stack([center_crop_resize(_open_image(path), IMAGE_SIDE) for _, path in files])
    return images, np.array([label for label, _ in files], np.int64)


def interleave_classes(labels: Sequence[int]) -> list[int]:
    """An order of images in which each class has its turn in each round: any prefix is balanced.

    Rounds differ in the order of classes, so that every tenth image, or every second, is not of one class.
    """
    rounds: dict[int, int] = defaultdict(int)  # each class's own
    positions = []
    for label in labels:
        positions.append((rounds[label], label))
        rounds[label] += 1
    max_count = max(rounds.values(), default=0)
    class_order = np.random.default_rng(0).random((max_count, max(labels, default=0) + 1))
    return sorted(range(len(labels)), key=lambda i: (positions[i][0], class_order[positions[i]]))


def _open_image(path: Path) -> Images:
    from PIL import Image, ImageOps

    from unveil.models.data.pil_conversion import to_rgb

    with Image.open(path) as image:
        return to_rgb(ImageOps.exif_transpose(image))


def center_crop_resize(image: Images, size: int) -> Images:
    """One image [H, W, 3] centre-cropped to a square and resized to size x size (Lanczos)."""
    from PIL import Image

    height, width, _ = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(square)
    return np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.LANCZOS))


def split_80_20(name: str, images: Images, labels: Labels, classes: tuple[str, ...], seed: int) -> ImageDataset:
    """Shuffle by `seed`; the last fifth is for testing."""
    order = np.random.default_rng(seed).permutation(len(images))
    cut = len(images) - len(images) // 5
    train, test = order[:cut], order[cut:]
    return ImageDataset(name, images[train], labels[train], images[test], labels[test], classes)


# --- archives ---------------------------------------------------------------------------------------------------


def save_npz(data: ImageDataset) -> bytes:
    """A data set as one blob; `load_npz` reads it back."""
    arrays: dict[str, Any] = {
        "train": data.train,
        "train_labels": data.train_labels,
        "test": data.test,
        "test_labels": data.test_labels,
        "classes": np.array(data.classes, dtype=np.str_),
    }
    if data.train_originals is not None and data.test_originals is not None:
        arrays |= {"train_originals": data.train_originals, "test_originals": data.test_originals}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def load_npz(name: str, raw: bytes) -> ImageDataset:
    with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    classes = tuple(str(c) for c in arrays.pop("classes"))
    return ImageDataset(name=name, classes=classes, **arrays)


# --- torchvision ------------------------------------------------------------------------------------------------


def _torchvision(name: str, root: Path) -> ImageDataset:
    from torchvision import datasets as tv

    def read(split: Split) -> tuple[Images, Labels]:
        if name == "stl10":
            stl = tv.STL10(str(root), split=split, download=True)
            return np.ascontiguousarray(stl.data.transpose(0, 2, 3, 1)), stl.labels.astype(np.int64)
        cifar = tv.CIFAR10(str(root), train=split == "train", download=True)
        return np.ascontiguousarray(cifar.data), np.array(cifar.targets, np.int64)

    folder = "stl10_binary" if name == "stl10" else "cifar-10-batches-py"
    try:
        root.mkdir(parents=True, exist_ok=True)
        train, test = read("train"), read("test")
    except (OSError, RuntimeError) as error:
        raise DatasetMissing(
            f"{name} is not in {root} and could not be downloaded ({type(error).__name__}: {error}); "
            f"put its folder {folder} there, or set UNVEIL_DATA_DIR to where it is"
        ) from error
    return ImageDataset(name, *train, *test, classes=_STL10_CLASSES if name == "stl10" else _CIFAR10_CLASSES)


# --- the bundled sample -----------------------------------------------------------------------------------------

# scikit-image's photographs; test and train tiles come from different ones.
_TEST_PHOTOS = ("astronaut.png", "coffee.png", "chelsea.png")
_TRAIN_PHOTOS = ("rocket.jpg", "motorcycle_left.png")
_SAMPLE_CLASSES = ("astronaut", "coffee", "chelsea", "rocket", "motorcycle_left", "dead leaves")
_SAMPLE_TRAIN, _SAMPLE_TEST = 400, 61


@cache
def sample() -> ImageDataset:
    """Non-overlapping 96x96 tiles of scikit-image's photographs; training is filled up with dead-leaves images."""
    test, test_labels = _sample_test()
    train, train_labels = _cut_photo_tiles(_TRAIN_PHOTOS)
    synthetic = dead_leaves(_SAMPLE_TRAIN - len(train), seed=0)
    images = np.concatenate([train, synthetic])
    labels = np.concatenate([train_labels, np.full(len(synthetic), len(_SAMPLE_CLASSES) - 1)])
    order = np.random.default_rng(0).permutation(len(images))
    return ImageDataset(
        "sample", images[order], labels[order], test, test_labels, _SAMPLE_CLASSES,
        notes=("sample is a demonstration: few photographs, training filled up with synthetic images",),
    )  # fmt: skip


@cache
def _sample_test() -> tuple[Images, Labels]:
    images, labels = _cut_photo_tiles(_TEST_PHOTOS)
    order = np.random.default_rng(0).permutation(len(images))
    return images[order], labels[order]


def load_photograph(file: str) -> Images:
    """One of scikit-image's photographs as a whole: [H, W, 3]. Raises DatasetMissing."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise DatasetMissing("the sample data set is cut from scikit-image's photographs: install scikit-image")
    return _open_image(Path(spec.origin).parent / "data" / file)


def _cut_photo_tiles(photos: tuple[str, ...]) -> tuple[Images, Labels]:
    images, labels = [], []
    for photo in photos:
        image = load_photograph(photo)
        rows, columns = image.shape[0] // IMAGE_SIDE, image.shape[1] // IMAGE_SIDE
        tiles = image[: rows * IMAGE_SIDE, : columns * IMAGE_SIDE].reshape(rows, IMAGE_SIDE, columns, IMAGE_SIDE, 3)
        images.append(tiles.transpose(0, 2, 1, 3, 4).reshape(-1, IMAGE_SIDE, IMAGE_SIDE, 3))
        labels += [_SAMPLE_CLASSES.index(photo.split(".")[0])] * (rows * columns)
    return np.concatenate(images), np.array(labels, np.int64)


def dead_leaves(count: int, seed: int) -> Images:
    """Opaque discs with power-law radii falling on each other: images with natural statistics (Lee et al. 2001).

    Cut from large canvases; uint8 [count, 96, 96, 3], lit from above, with texture on every leaf.
    """
    rng = np.random.default_rng(seed)
    side, tiles = 8 * IMAGE_SIDE, []
    for _ in range(-(-count // 64)):
        canvas = _leaves(rng, side)
        tiles.append(
            canvas.reshape(8, IMAGE_SIDE, 8, IMAGE_SIDE, 3)
            .transpose(0, 2, 1, 3, 4)
            .reshape(64, IMAGE_SIDE, IMAGE_SIDE, 3)
        )
    return np.concatenate(tiles)[:count] if tiles else np.zeros((0, IMAGE_SIDE, IMAGE_SIDE, 3), np.uint8)


def _leaves(rng: np.random.Generator, side: int) -> Images:
    from scipy.ndimage import gaussian_filter

    canvas = np.full((side, side, 3), 110.0, np.float32)
    leaves = 6000  # covers the canvas five times over
    smallest, largest = 5.0, 160.0
    # density of radii ~ r^-3 between the two, by inverting its distribution
    radii = (smallest**-2 - rng.random(leaves) * (smallest**-2 - largest**-2)) ** -0.5
    centres = rng.random((leaves, 2)) * side
    tones = np.clip(rng.gamma(2.2, 48, leaves), 4, 250)
    warmth, tint = rng.normal(0, 0.16, leaves), rng.normal(0, 0.06, leaves)
    texture = gaussian_filter(rng.normal(0, 1, (side, side)), 1.0).astype(np.float32) * 12
    roughness = rng.random(leaves) * 2
    for (y, x), radius, tone, warm, green, rough in zip(centres, radii, tones, warmth, tint, roughness, strict=True):
        top, bottom = max(0, int(y - radius)), min(side, int(y + radius) + 2)
        left, right = max(0, int(x - radius)), min(side, int(x + radius) + 2)
        rows, columns = np.ogrid[top:bottom, left:right]
        inside = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        shade = tone * (1 - 0.25 * (rows - y) / radius) + rough * texture[top:bottom, left:right]
        colour = np.array([1 + warm, 1 + green, 1 - warm], np.float32)
        canvas[top:bottom, left:right][inside] = (shade[..., None] * colour)[inside]
    return np.clip(gaussian_filter(canvas, (0.5, 0.5, 0)), 0, 255).astype(np.uint8)
