"""The bundled dataset `sample`, which works offline."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np

from unveil.models.core.blocks import to_blocks
from unveil.models.core.images import Images
from unveil.models.data.dead_leaves import dead_leaves
from unveil.models.data.decoding import decode, inspect
from unveil.models.data.image_dataset import IMAGE_SIDE, DatasetMissing, ImageDataset, Labels

# Photographs of scikit-image. Test and training tiles come from different photographs.
_TEST_PHOTOS = ("astronaut.png", "coffee.png", "chelsea.png")
_TRAIN_PHOTOS = ("rocket.jpg", "motorcycle_left.png")
SAMPLE_CLASSES = ("astronaut", "coffee", "chelsea", "rocket", "motorcycle_left", "dead leaves")
SAMPLE_TRAIN_COUNT, SAMPLE_TEST_COUNT = 400, 61


@cache
def sample() -> ImageDataset:
    """96x96 tiles of scikit-image's photographs; the training split also holds dead-leaves images."""
    test, test_labels = sample_test()
    train, train_labels = _cut_photo_tiles(_TRAIN_PHOTOS)
    synthetic = dead_leaves(SAMPLE_TRAIN_COUNT - len(train), seed=0)
    images = np.concatenate([train, synthetic])
    labels = np.concatenate([train_labels, np.full(len(synthetic), len(SAMPLE_CLASSES) - 1)])
    order = np.random.default_rng(0).permutation(len(images))
    return ImageDataset(
        "sample", images[order], labels[order], test, test_labels, SAMPLE_CLASSES,
        notes=("sample is a demonstration: few photographs, training filled up with synthetic images",),
    )  # fmt: skip


@cache
def sample_test() -> tuple[Images, Labels]:
    """The test split alone: the training split takes seconds to generate."""
    images, labels = _cut_photo_tiles(_TEST_PHOTOS)
    order = np.random.default_rng(0).permutation(len(images))
    return images[order], labels[order]


def load_photograph(file: str) -> Images:
    """One whole photograph of scikit-image, uint8 [H, W, 3]. Raises DatasetMissing without scikit-image."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise DatasetMissing("the dataset sample consists of photographs of scikit-image: install scikit-image")
    return decode(inspect((Path(spec.origin).parent / "data" / file).read_bytes())).pixels


def _cut_photo_tiles(photos: tuple[str, ...]) -> tuple[Images, Labels]:
    images, labels = [], []
    for photo in photos:
        image = load_photograph(photo)
        rows, columns = image.shape[0] // IMAGE_SIDE, image.shape[1] // IMAGE_SIDE
        images.append(to_blocks(image[None, : rows * IMAGE_SIDE, : columns * IMAGE_SIDE], IMAGE_SIDE)[0])
        labels += [SAMPLE_CLASSES.index(photo.split(".")[0])] * (rows * columns)
    return np.concatenate(images), np.array(labels, np.int64)
