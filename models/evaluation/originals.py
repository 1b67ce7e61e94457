"""The originals of a cell and the gallery in which they are identified."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from unveil.models.attacks.base import AttackResult
from unveil.models.core.images import Images
from unveil.models.metrics.ambiguity import Oriented, best_orientation
from unveil.models.metrics.gallery import GALLERY_LIMIT, Gallery, build_gallery
from unveil.models.metrics.matching import Matches, match
from unveil.models.metrics.ssim import SsimMode, ssim

_MAX_MATCHES = 32  # of a few hundred kB each


class _LatestGallery:
    """The gallery built last, shared by the cells of an evaluation: its features take a second or more to compute.

    `matches` holds the latest matches with it: several attacks reconstruct the same images, such as the originals.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key = b""
        self._gallery: Gallery | None = None
        self.matches: OrderedDict[bytes, Matches] = OrderedDict()

    def build(
        self, images: Images, distractors: Images | None, seed: int
    ) -> tuple[Gallery, OrderedDict[bytes, Matches]]:
        digest = hashlib.sha256(f"{images.shape} {seed}".encode())
        for part in (images, distractors):
            if part is not None:
                digest.update(np.ascontiguousarray(part[: max(GALLERY_LIMIT, len(images))]).data)
        with self._lock:
            if self._gallery is None or self._key != digest.digest():
                self._gallery = None  # frees the memory before the next gallery takes it
                self._key, self._gallery = digest.digest(), build_gallery(images, distractors, seed=seed)
                self.matches = OrderedDict()
            return self._gallery, self.matches


@dataclass(frozen=True)
class Originals:
    """images: uint8 [N, H, W, 3]. gallery: these and distractors."""

    images: Images
    gallery: Gallery
    matches: OrderedDict[bytes, Matches] = field(default_factory=OrderedDict, repr=False)  # the latest ones

    @classmethod
    def build(cls, images: Images, *distractors: Images | None, seed: int = 0) -> Originals:
        """distractors: sets of further images; the first that has images of the same size is taken."""
        fitting = (
            each for each in distractors if each is not None and len(each) and each.shape[1:] == images.shape[1:]
        )
        return cls(images, *_latest_gallery.build(images, next(fitting, None), seed))

    def repeated(self, count: int) -> Originals:
        """The first `count` originals, from the start again where there are fewer, in the same gallery."""
        rows = np.resize(np.arange(len(self.images)), count)
        return replace(self, images=self.images[rows], gallery=self.gallery.repeated(rows))

    def orient(self, images: Images, attack_result: AttackResult, mode: SsimMode = "rgb7") -> Oriented:
        """Cut padding off reconstructions, and turn them to the best orientation that the attack leaves open."""
        height, width = self.images.shape[1:3]
        return best_orientation(
            images[:, :height, :width],
            self.images,
            attack_result.ambiguity,
            partial(ssim, mode=mode),
            per_image=attack_result.ambiguity_per_image,
        )

    def match(self, reconstructed: Images) -> Matches:
        digest = hashlib.sha256(f"{reconstructed.shape}".encode())
        for array in (reconstructed, self.images, self.gallery.columns, self.gallery.own_clusters):
            digest.update(np.ascontiguousarray(array).data)
        found = self.matches.get(digest.digest())
        if found is None:
            found = self.matches[digest.digest()] = match(reconstructed, self.images, self.gallery)
            while len(self.matches) > _MAX_MATCHES:
                self.matches.popitem(last=False)
        return found


_latest_gallery = _LatestGallery()
