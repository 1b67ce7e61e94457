"""All datasets by name: `sample`, STL-10 and CIFAR-10, and the folders below an operator's data folder.

Imports no torch: torchvision is imported inside functions only.
"""

from __future__ import annotations

from pathlib import Path

from unveil.models.core.images import Images
from unveil.models.data.folders import find_dataset_folders, folder_info, preview_folder, read_folder
from unveil.models.data.image_dataset import IMAGE_SIDE, DatasetInfo, DatasetMissing, ImageDataset
from unveil.models.data.sample import SAMPLE_CLASSES, SAMPLE_TEST_COUNT, SAMPLE_TRAIN_COUNT, sample, sample_test
from unveil.models.data.torchvision_datasets import FOLDERS, load_torchvision, torchvision_infos

_SAMPLE_INFO = DatasetInfo(
    "sample", SAMPLE_TRAIN_COUNT, SAMPLE_TEST_COUNT, IMAGE_SIDE, IMAGE_SIDE, SAMPLE_CLASSES,
    note="a demonstration, works offline",
    labelled=False,  # training and test images show different photographs, so no class is in both
)  # fmt: skip


def load(name: str, data_dir: Path | None = None) -> ImageDataset:
    """Read a dataset by name. Raises DatasetMissing."""
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
    """Read the dataset in `folder`, in one of the layouts of `folders.read_folder`. Raises DatasetMissing."""
    if not folder.is_dir():
        raise DatasetMissing(f"there is no folder {folder}")
    return read_folder(folder.name, folder)


def preview(name: str, data_dir: Path | None, count: int) -> Images:
    """The first `count` test images of a dataset; of a folder, only these are read. Raises DatasetMissing."""
    if name == "sample":
        return sample_test()[0][:count]
    folder = (
        (data_dir or default_dir()) / FOLDERS[name] if name == "stl10" else find_dataset_folders(data_dir).get(name)
    )
    if folder is None or not folder.is_dir():
        return load(name, data_dir).test[:count]
    return preview_folder(folder, count)


def default_dir() -> Path:
    """The folder for downloads if no data folder is configured."""
    return Path.home() / ".cache" / "unveil"


def list_datasets(data_dir: Path | None = None) -> list[DatasetInfo]:
    """The facts about every dataset that `load` knows; reads no image."""
    folders = [folder_info(name, folder) for name, folder in find_dataset_folders(data_dir).items()]
    return [_SAMPLE_INFO, *torchvision_infos(data_dir or default_dir()), *folders]
