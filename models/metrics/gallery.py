"""The gallery of an identification: originals to compare reconstructions with, in near-duplicate clusters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images, check_images
from unveil.models.metrics.alignment import Spectra, grid_spectra
from unveil.models.metrics.comparisons import Targets, build_targets
from unveil.models.metrics.match_features import FINE_GRID, dihedral_features, luma, square_grid

GALLERY_LIMIT = 1000  # images
NEAR_DUPLICATE = 0.97  # correlation of 24x24 averages, in the best rotation or mirror
_FLAT_DEVIATION = 0.5  # grey levels; an image without contrast is a near-duplicate of any other


@dataclass(frozen=True)
class Gallery:
    """Gallery images and their clusters of near-duplicates.

    columns: int64 [N], the gallery position of each original, -1 where a subsampled gallery lacks it.
    clusters: int64 [G], the cluster of each gallery image. own_clusters: int64 [N], that of each original; an original
    outside the gallery without a near-duplicate in it has a cluster of its own.
    """

    images: Images
    columns: npt.NDArray[np.int64]
    clusters: npt.NDArray[np.int64]
    own_clusters: npt.NDArray[np.int64]
    available: int  # originals and distractors, before the gallery was subsampled
    targets: Mapping[str, Targets]  # by comparison
    spectra: Spectra  # [G, 8, S, S // 2 + 1], for alignment

    @property
    def size(self) -> int:
        return len(self.images)

    @property
    def positions(self) -> npt.NDArray[np.int64]:
        """The original that each gallery image is, int64 [G]; -1 for a distractor."""
        positions = np.full(self.size, -1, np.int64)
        inside = np.flatnonzero(self.columns >= 0)
        positions[self.columns[inside]] = inside
        return positions

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        """Number of each gallery image, int64 [G]: originals by their position, distractors after the last original."""
        positions = self.positions
        return np.where(positions >= 0, positions, np.arange(self.size))

    @property
    def distractors(self) -> Images:
        """The gallery images that are no originals, in the order of their numbers."""
        return self.images[:0] if (self.columns < 0).any() else self.images[len(self.columns) :]

    @property
    def cluster_sizes(self) -> npt.NDArray[np.int64]:
        """Gallery images by cluster; 0 for a cluster of originals outside the gallery."""
        return np.bincount(self.clusters, minlength=int(self.own_clusters.max(initial=-1)) + 1)

    @property
    def effective_size(self) -> float:
        """Number of distinct images that would give the same chance of a random match: 1 / sum of squared shares."""
        shares = self.cluster_sizes / self.size
        return float(1 / (shares**2).sum())

    def repeated(self, originals: npt.NDArray[np.int64]) -> Gallery:
        """The same gallery for other queries, query i of original originals[i]: more noise images than originals."""
        return replace(self, columns=self.columns[originals], own_clusters=self.own_clusters[originals])


def build_gallery(
    originals: Images, distractors: Images | None = None, limit: int = GALLERY_LIMIT, seed: int = 0
) -> Gallery:
    """A gallery of all originals and, up to `limit` images, distractors; above the limit a random sample of originals.

    distractors: further images of the same kind and size, none of them an original.
    """
    check_images(originals, "originals")
    count = len(originals)
    if count == 0:
        raise ValueError("originals must not be empty")
    available = count + (0 if distractors is None else len(distractors))
    columns = np.full(count, -1, np.int64)
    if count > limit:
        taken = np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))
        columns[taken] = np.arange(limit)
        images = originals[taken]
    else:
        columns[:] = np.arange(count)
        images = originals
        if distractors is not None and count < limit and len(distractors):
            if distractors.shape[1:] != originals.shape[1:]:
                raise ValueError(
                    f"distractors must have the size of the originals {list(originals.shape[1:])}; "
                    f"got {list(distractors.shape[1:])}"
                )
            images = np.concatenate([originals, distractors[: limit - count]])
    clusters = near_duplicate_clusters(images)
    own = _clusters_of(originals, images, clusters, columns)
    spectra = grid_spectra(images, variants=True)
    return Gallery(images, columns, clusters, own, available, build_targets(images), spectra)


def near_duplicate_clusters(images: Images) -> npt.NDArray[np.int64]:
    """Cluster number of each image, int64 [N]: single linkage of near-duplicates, rotations and mirrors included.

    Two images are near-duplicates when their 24x24 averages correlate by NEAR_DUPLICATE or more, or when both are flat.
    """
    from scipy.sparse.csgraph import connected_components

    pattern, variants, flat = _patterns(images)
    linked = _best_correlations(pattern, variants) >= NEAR_DUPLICATE
    linked |= flat[:, None] & flat[None, :]
    return np.asarray(connected_components(linked, directed=False)[1], np.int64)


def _clusters_of(
    originals: Images, images: Images, clusters: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    own = np.empty(len(originals), np.int64)
    inside = columns >= 0
    own[inside] = clusters[columns[inside]]
    outside = np.flatnonzero(~inside)
    fresh = int(clusters.max()) + 1
    _, variants, flat_gallery = _patterns(images)
    for start in range(0, len(outside), 256):
        rows = outside[start : start + 256]
        pattern, _, flat = _patterns(originals[rows])
        similarity = _best_correlations(pattern, variants)
        similarity[flat[:, None] & flat_gallery[None, :]] = 1
        nearest = similarity.argmax(axis=1)
        found = similarity[np.arange(len(rows)), nearest] >= NEAR_DUPLICATE
        own[rows] = np.where(found, clusters[nearest], fresh + start + np.arange(len(rows)))
    return own


def _patterns(images: Images) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Unit-norm averages [N, D], the same in eight rotations and mirrors [N, 8, D], and which images are flat."""
    variants = np.empty((len(images), 8, min(FINE_GRID, *images.shape[1:3]) ** 2), np.float32)
    flat = np.empty(len(images), np.bool_)
    for i in range(0, len(images), 128):
        grey = luma(images[i : i + 128])
        flat[i : i + 128] = square_grid(grey, FINE_GRID).std(axis=(1, 2)) < _FLAT_DEVIATION
        part = dihedral_features(grey, FINE_GRID)
        part -= part.mean(axis=2, keepdims=True)
        norm = np.sqrt((part**2).sum(axis=2, keepdims=True))
        variants[i : i + 128] = part / np.where(norm > 0, norm, 1)
    variants[flat] = 0
    return variants[:, 0], variants, flat


def _best_correlations(patterns: npt.NDArray[np.float32], variants: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    closest = np.abs(patterns @ variants[:, 0].T)
    for v in range(1, variants.shape[1]):
        np.maximum(closest, np.abs(patterns @ variants[:, v].T), out=closest)
    return closest
