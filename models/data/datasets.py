"""All datasets by name: `sample`, STL-10 and CIFAR-10, and the folders below an operator's data folder.

Imports no torch: torchvision is imported inside functions only.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from pathlib import Path

from unveil.models.core.images import Images
from unveil.models.data.arrays import SUFFIXES
from unveil.models.data.folders import find_dataset_folders, fingerprint, folder_info, preview_folder, read_folder
from unveil.models.data.image_dataset import IMAGE_SIDE, DatasetInfo, DatasetMissing, ImageDataset
from unveil.models.data.sample import SAMPLE_CLASSES, SAMPLE_TEST_COUNT, SAMPLE_TRAIN_COUNT, sample, sample_test
from unveil.models.data.stl10_binary import read_stl10_images
from unveil.models.data.torchvision_datasets import FOLDERS, load_torchvision, torchvision_infos

_SAMPLE_INFO = DatasetInfo(
    "sample", SAMPLE_TRAIN_COUNT, SAMPLE_TEST_COUNT, IMAGE_SIDE, IMAGE_SIDE, SAMPLE_CLASSES,
    note="a demonstration, works offline",
    labelled=False,  # training and test images show different photographs, so no class is in both
)  # fmt: skip


@lru_cache(maxsize=2)
def _load_state(name: str, data_dir: Path | None, state: Hashable) -> ImageDataset:  # noqa: ARG001 - changed files miss the cache
    return _load(name, data_dir)


def load(name: str, data_dir: Path | None = None) -> ImageDataset:
    """Read a dataset by name; keeps the last ones as long as their files stay as they are.

    Raises DatasetMissing, DatasetUnreadable.
    """
    folder = _folder_of(name, data_dir)
    return _load_state(name, data_dir, fingerprint(folder) if folder is not None and folder.exists() else None)


def _folder_of(name: str, data_dir: Path | None) -> Path | None:
    if name in FOLDERS:
        return (data_dir or default_dir()) / FOLDERS[name]
    return find_dataset_folders(data_dir).get(name)


def _load(name: str, data_dir: Path | None) -> ImageDataset:
    if name == "sample":
        return sample()
    if name in FOLDERS:
        return load_torchvision(name, data_dir or default_dir())
    folder = find_dataset_folders(data_dir).get(name)
    if folder is None:
        raise DatasetMissing(
            f"unknown dataset {name!r}; choose from {', '.join(info.name for info in list_datasets(data_dir))}"
        )
    return read_folder(name, folder)


def load_folder(folder: Path) -> ImageDataset:
    """Read the dataset in `folder`, or in a NumPy file. Raises DatasetMissing, DatasetUnreadable."""
    if not folder.is_dir() and not (folder.is_file() and folder.suffix in SUFFIXES):
        raise DatasetMissing(f"there is no folder and no .npy or .npz file {folder}")
    return read_folder(folder.stem if folder.is_file() else folder.name, folder)


def preview(name: str, data_dir: Path | None, count: int) -> Images:
    """The first `count` test images of a dataset; of a folder, only these are read.

    Raises DatasetMissing, DatasetUnreadable.
    """
    if name == "sample":
        return sample_test()[0][:count]
    folder = _folder_of(name, data_dir)
    if name == "stl10" and folder is not None and (folder / "test_X.bin").is_file():
        return read_stl10_images(folder / "test_X.bin", count)
    if name in FOLDERS or folder is None:
        return load(name, data_dir).test[:count]
    return preview_folder(name, folder, count)


def default_dir() -> Path:
    """The folder for downloads if no data folder is configured."""
    return Path.home() / ".cache" / "unveil"


def list_datasets(data_dir: Path | None = None) -> list[DatasetInfo]:
    """The facts about every dataset that `load` knows; reads no image."""
    folders = [folder_info(name, path, fingerprint(path)) for name, path in find_dataset_folders(data_dir).items()]
    return [_SAMPLE_INFO, *torchvision_infos(data_dir or default_dir()), *folders]
