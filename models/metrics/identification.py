"""Identification: the share of reconstructions whose most similar gallery image is their original."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import GREY_WEIGHTS_10000, Images, check_pair

SCALES = (1, 2, 4, 8)  # factors by which images are averaged down

_MAX_SIMILARITIES_PER_BATCH = 2**24  # bounds memory at about 200 MB
_TIE = np.float32(1e-5)  # the matrix product rounds equal images differently by less than this


@dataclass(frozen=True)
class Identification:
    """ranks: int64 [4, N] by scale, from 1 for the most similar image of the gallery."""

    ranks: npt.NDArray[np.int64]

    @property
    def top1(self) -> npt.NDArray[np.float64]:
        """The share of reconstructions with rank 1 at each scale, float64 [4] in 0..1."""
        return (self.ranks == 1).mean(axis=1)


def identification(plain: Images, reconstructed: Images) -> Identification:
    """The rank of each original among all `plain` images by similarity to its reconstruction.

    plain, reconstructed: uint8 [N, H, W, 3]. Similarity is the magnitude of the normalised cross-correlation of grey
    images averaged down by 1, 2, 4 and 8, so an inverted reconstruction identifies its original as well. Ties count
    against the attacker.
    """
    check_pair(plain, reconstructed)
    count = len(plain)
    ranks = np.empty((len(SCALES), count), np.int64)
    step = max(1, _MAX_SIMILARITIES_PER_BATCH // max(1, count))
    gallery = _identification_vectors(plain)
    for i in range(0, count, step):
        for scale, (true, reconstructed_vectors) in enumerate(
            zip(gallery, _identification_vectors(reconstructed[i : i + step]), strict=True)
        ):
            similarity = np.abs(reconstructed_vectors @ true.T)
            own_similarity = np.diagonal(similarity, i)[:, None]
            ranks[scale, i : i + step] = (similarity >= own_similarity - _TIE).sum(axis=1)
    return Identification(ranks)


def _identification_vectors(images: Images) -> tuple[npt.NDArray[np.float32], ...]:
    """Grey images at the four scales, with zero mean and unit norm (zero for a flat image): float32 [N, P] each.

    Averaging drops an odd last row or column; an image of one row or column is not averaged further.
    """
    from unveil.models.core import numba_kernels  # imported late: the API imports this module and needs no compiler

    count, height, width, _ = images.shape
    sizes = [height * width]
    for _ in SCALES[1:]:
        if min(height, width) > 1:
            height, width = height // 2, width // 2
        sizes.append(height * width)
    out = tuple(np.empty((count, size), np.float32) for size in sizes)
    if numba_kernels.identification_vectors is None:
        for i in range(0, count, 32):
            _fill_identification_vectors(images[i : i + 32], tuple(vectors[i : i + 32] for vectors in out))
    else:
        numba_kernels.identification_vectors(np.ascontiguousarray(images), GREY_WEIGHTS_10000, out)
    return out


def _fill_identification_vectors(images: Images, out: tuple[npt.NDArray[np.float32], ...]) -> None:
    grey = images.astype(np.int32) @ GREY_WEIGHTS_10000
    for vectors in out:
        flat = grey.reshape(len(grey), -1)
        flat = flat - flat.mean(axis=1, keepdims=True)
        norm = np.sqrt(np.einsum("np,np->n", flat, flat))[:, None]
        vectors[:] = flat * np.divide(1, norm, out=np.zeros_like(norm), where=norm > 0)
        if min(grey.shape[1:]) > 1:
            grey = grey[:, : grey.shape[1] // 2 * 2, : grey.shape[2] // 2 * 2]
            rows = grey[:, ::2] + grey[:, 1::2]
            grey = rows[:, :, ::2] + rows[:, :, 1::2]
