"""STL-10 and CIFAR-10, downloaded and read by torchvision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from unveil.models.core.images import Images
from unveil.models.data.image_dataset import DatasetInfo, DatasetMissing, ImageDataset, Labels, Split

_STL10_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
_CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

FOLDERS = {"stl10": "stl10_binary", "cifar10": "cifar-10-batches-py"}  # where torchvision stores each dataset
_INFOS = (
    DatasetInfo("stl10", 5000, 8000, 96, 96, _STL10_CLASSES),
    DatasetInfo("cifar10", 50000, 10000, 32, 32, _CIFAR10_CLASSES),
)


def torchvision_infos(root: Path) -> list[DatasetInfo]:
    """The datasets of this module, `available` if their folder exists below `root`."""
    return [
        replace(
            info,
            available=(root / FOLDERS[info.name]).is_dir(),
            note=f"downloaded on first use, or put the folder {FOLDERS[info.name]} into {root}",
        )
        for info in _INFOS
    ]


def load_torchvision(name: str, root: Path) -> ImageDataset:
    """Read `stl10` or `cifar10` below `root`; download it if it is missing. Raises DatasetMissing."""
    from torchvision import datasets as tv

    def read(split: Split) -> tuple[Images, Labels]:
        if name == "stl10":
            stl = tv.STL10(str(root), split=split, download=True)
            return np.ascontiguousarray(stl.data.transpose(0, 2, 3, 1)), stl.labels.astype(np.int64)
        cifar = tv.CIFAR10(str(root), train=split == "train", download=True)
        return np.ascontiguousarray(cifar.data), np.array(cifar.targets, np.int64)

    try:
        root.mkdir(parents=True, exist_ok=True)
        train, test = read("train"), read("test")
    except (OSError, RuntimeError) as error:
        raise DatasetMissing(
            f"{name} is not in {root} and the download failed ({type(error).__name__}: {error}); put its folder "
            f"{FOLDERS[name]} there, or set UNVEIL_DATA_DIR to the folder that holds it"
        ) from error
    return ImageDataset(name, *train, *test, classes=_STL10_CLASSES if name == "stl10" else _CIFAR10_CLASSES)
