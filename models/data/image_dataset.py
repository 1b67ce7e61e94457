"""A dataset in memory, the facts about a dataset that need no image, and the order and split of its images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images

Labels = npt.NDArray[np.int64]
Split = Literal["train", "test"]

IMAGE_SIDE = 96  # pixels a side of the images of every dataset but CIFAR-10


class DatasetMissing(LookupError):
    """The dataset is not on this machine; the message names the folder in which its files belong."""


@dataclass(frozen=True)
class ImageDataset:
    """Images uint8 [N, H, W, 3] and labels int64 [N], counted from 0, of two splits.

    The images of an uploaded protected dataset are ciphertexts; `train_originals` and `test_originals` are their plain
    images if these were uploaded as well.
    """

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
        """The first `train` and `test` images of the splits; None takes all.

        Datasets are stored with interleaved classes, so a prefix is balanced.
        """
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
    """The facts about a dataset that are known without reading its images."""

    name: str
    train: int
    test: int
    width: int
    height: int
    classes: tuple[str, ...] = field(default=())
    available: bool = True
    note: str = ""
    labelled: bool = True  # a classifier can learn from the training images and be tested on the test images


def interleave_classes(labels: Sequence[int]) -> list[int]:
    """An order of images in which every round holds one image of each class, so that any prefix is balanced.

    The order of the classes differs from round to round: every second or every tenth image is not of one class.
    """
    rounds: dict[int, int] = defaultdict(int)
    places = []
    for label in labels:
        places.append((rounds[label], label))
        rounds[label] += 1
    round_count = max(rounds.values(), default=0)
    draws = np.random.default_rng(0).random((round_count, max(labels, default=0) + 1))
    return sorted(range(len(labels)), key=lambda i: (places[i][0], draws[places[i]]))


def split_80_20(name: str, images: Images, labels: Labels, classes: tuple[str, ...], seed: int) -> ImageDataset:
    """Shuffle the images by `seed` and take the last fifth as test images."""
    order = np.random.default_rng(seed).permutation(len(images))
    cut = len(images) - len(images) // 5
    train, test = order[:cut], order[cut:]
    return ImageDataset(name, images[train], labels[train], images[test], labels[test], classes)
