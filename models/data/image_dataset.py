"""A dataset in memory, the facts about a dataset that need no image, and the order and split of its images."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images

Labels = npt.NDArray[np.int64]
Split = Literal["train", "test"]

IMAGE_SIDE = 96  # pixels a side of the images of every dataset but CIFAR-10


class DatasetMissing(LookupError):
    """The dataset is not on this machine; the message names the folder in which its files belong."""


class DatasetUnreadable(ValueError):
    """The dataset exists but cannot be read; the message names the file and says what to do."""


@dataclass(frozen=True)
class ImageDataset:
    """Images uint8 [N, H, W, 3] and labels int64 [N], counted from 0, of two splits.

    The images of an uploaded protected dataset are ciphertexts; `train_originals` and `test_originals` are their plain
    images if these were uploaded as well. test_names: of image files, without test/ and suffix, such as `cat/1`; None
    where images come without file names.
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
    test_names: tuple[str, ...] | None = None

    @property
    def names_of_test(self) -> tuple[str, ...]:
        """The name of each test image; its position where it has no other."""
        return tuple(map(str, range(len(self.test)))) if self.test_names is None else self.test_names

    @property
    def is_labelled(self) -> bool:
        """Whether a classifier can learn from the training images and be tested on the test images."""
        same_classes = set(self.train_labels.tolist()) == set(self.test_labels.tolist())
        return same_classes and len(self.classes) > 1

    @cached_property
    def sha256(self) -> str:
        """The hash of its images and labels, by which two datasets are the same or not."""
        return _hash_arrays(self.train, self.train_labels, self.test, self.test_labels)

    @cached_property
    def originals_sha256(self) -> str | None:
        if self.train_originals is None or self.test_originals is None:
            return None
        return _hash_arrays(self.train_originals, self.test_originals)

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
            test_names=None if self.test_names is None else self.test_names[:test],
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
    has_originals: bool = False  # of protected images that were uploaded

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width


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


def _hash_arrays(*arrays: npt.NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
