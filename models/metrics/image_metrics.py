"""How much of a plain image a reconstruction shows: SSIM, PSNR, identification rate, bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images, check_images

SsimMode = Literal["rgb7", "gray7", "rgb-gauss11", "gray-gauss11"]
SSIM_MODES: tuple[SsimMode, ...] = get_args(SsimMode)
SCALES = (1, 2, 4, 8)

Floats = npt.NDArray[np.float64]

_GREY_10000 = np.array([2125, 7154, 721], np.int32)  # scikit-image's rgb2gray; with integers a flat image is flat
_GREY = _GREY_10000 / 10_000
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_MAX_VALUES_PER_CHUNK = 4_000_000  # image values at a time: bounds memory at about 200 MB
_MAX_SIMILARITIES_PER_BATCH = 2**24  # of reconstructions to originals at a time
_TIE = np.float32(1e-5)  # the product rounds two copies of an image differently, by less than this
_RESAMPLES = 2000
_MAX_DRAWS_PER_BATCH = 2**22  # of all resamples, at a time


def ssim(plain: Images, other: Images, mode: SsimMode = "rgb7") -> Floats:
    """Structural similarity of each image, float64 [N]; equal to scikit-image's to 1e-6.

    rgb7, gray7: uniform 7x7 window, sample covariance. *-gauss11: Gaussian window (sigma 1.5, 11x11), population
    covariance (Wang et al. 2004). Data range 255. Raises ValueError when an image is smaller than the window.
    """
    _check_pair(plain, other)
    if mode not in SSIM_MODES:
        raise ValueError(f"mode must be one of {', '.join(SSIM_MODES)}; got {mode!r}")
    window = 7 if mode.endswith("7") else 11
    if min(plain.shape[1:3]) < window:
        raise ValueError(f"{mode} needs images of at least {window}x{window}; got {plain.shape[2]}x{plain.shape[1]}")
    if mode == "rgb7":
        from unveil.models.core import numba_kernels  # not with the catalog: the API needs no compiler

        if numba_kernels.ssim7 is None:
            return _ssim_in_chunks(plain, other, mode)
        values = np.empty(len(plain))
        numba_kernels.ssim7(np.ascontiguousarray(plain), np.ascontiguousarray(other), values)
        return values
    return _ssim_in_chunks(plain, other, mode)


def _ssim_in_chunks(plain: Images, other: Images, mode: SsimMode) -> Floats:
    step = max(1, _MAX_VALUES_PER_CHUNK // int(np.prod(plain.shape[1:])))
    chunks = [_ssim(plain[i : i + step], other[i : i + step], mode) for i in range(0, len(plain), step)]
    return np.concatenate(chunks) if chunks else np.zeros(0)


def _ssim(plain: Images, other: Images, mode: SsimMode) -> Floats:
    x: Any
    y: Any
    if mode.startswith("rgb"):
        # int32 sums of 8-bit values are exact, and exact again after the wrap-around of a long running sum
        x, y = (a.astype(np.int32 if mode == "rgb7" else np.float64) for a in (plain, other))
    else:
        x, y = plain @ _GREY, other @ _GREY
    mean: Callable[[npt.NDArray[Any]], Floats] = _mean7 if mode.endswith("7") else _gauss11
    bessel = 49 / 48 if mode.endswith("7") else 1.0
    mx, my = mean(x), mean(y)
    both = mean(x * x + y * y) - mx * mx - my * my
    cross = mean(x * y) - mx * my
    numerator = (2 * mx * my + _C1) * (2 * bessel * cross + _C2)
    denominator = (mx * mx + my * my + _C1) * (bessel * both + _C2)
    values = numerator / denominator
    return values.mean(axis=tuple(range(1, values.ndim)), dtype=np.float64)


def _mean7(a: npt.NDArray[Any]) -> Floats:
    """Mean over every 7x7 window that lies inside, axes 1 and 2."""
    for axis in (1, 2):
        padding = [(0, 0)] * a.ndim
        padding[axis] = (1, 0)
        total = np.pad(np.cumsum(a, axis=axis, dtype=a.dtype), padding)
        size = total.shape[axis]
        a = total.take(range(7, size), axis=axis) - total.take(range(size - 7), axis=axis)
    return a / 49.0


def _gauss11(a: npt.NDArray[Any]) -> Floats:
    from scipy.ndimage import gaussian_filter1d

    for axis in (1, 2):
        a = gaussian_filter1d(a, 1.5, axis=axis, truncate=3.5)
    return a[:, 5:-5, 5:-5]


def mse(plain: Images, other: Images) -> Floats:
    """Mean squared error of each image, float64 [N], on the scale 0..255 squared."""
    _check_pair(plain, other)
    means = np.empty(len(plain))
    for i in range(0, len(plain), 32):  # a part at a time stays in the cache
        difference = plain[i : i + 32].astype(np.float32)
        difference -= other[i : i + 32]
        np.square(difference, out=difference)
        means[i : i + 32] = difference.reshape(len(difference), -1).mean(axis=1, dtype=np.float64)
    return means


PSNR_CEILING = 100.0  # of two equal images, so that means stay finite


def psnr(plain: Images, other: Images) -> Floats:
    """Peak signal-to-noise ratio of each image in dB, float64 [N], at most PSNR_CEILING."""
    errors = np.maximum(mse(plain, other), 255.0**2 / 10 ** (PSNR_CEILING / 10))
    return 10 * np.log10(255.0**2 / errors)


@dataclass(frozen=True)
class Identification:
    """ranks: int64 [4, N], by scale; 1 where the true original is the most similar of the gallery."""

    ranks: npt.NDArray[np.int64]

    @property
    def top1(self) -> Floats:
        """Fraction of rank 1 by scale, float64 [4]."""
        return (self.ranks == 1).mean(axis=1)


def identification(plain: Images, reconstructed: Images) -> Identification:
    """Rank of each true original among all `plain` by similarity to its reconstruction (SCIENCE section 5).

    Similarity is |normalised cross-correlation| of the grey images averaged down by 1, 2, 4 and 8, so a negative
    counts as seen. Ties count against the attacker.
    """
    _check_pair(plain, reconstructed)
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
    """Grey images averaged down by 1, 2, 4 and 8, with zero mean and unit norm (zero where flat): float32 [N, P] each.

    An odd last row or column is left out; an image too small to be averaged down stays as it is.
    """
    from unveil.models.core import numba_kernels  # not with the catalog: the API needs no compiler

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
        numba_kernels.identification_vectors(np.ascontiguousarray(images), _GREY_10000, out)
    return out


def _fill_identification_vectors(images: Images, out: tuple[npt.NDArray[np.float32], ...]) -> None:
    grey = images.astype(np.int32) @ _GREY_10000
    for vectors in out:
        flat = grey.reshape(len(grey), -1)
        flat = flat - flat.mean(axis=1, keepdims=True)
        norm = np.sqrt(np.einsum("np,np->n", flat, flat))[:, None]
        vectors[:] = flat * np.divide(1, norm, out=np.zeros_like(norm), where=norm > 0)
        if min(grey.shape[1:]) > 1:
            grey = grey[:, : grey.shape[1] // 2 * 2, : grey.shape[2] // 2 * 2]
            rows = grey[:, ::2] + grey[:, 1::2]
            grey = rows[:, :, ::2] + rows[:, :, 1::2]


def binomial_interval(hits: float, trials: int, confidence: float) -> tuple[float, float]:
    """Clopper-Pearson interval of a rate; fractional hits (means over keys) are allowed."""
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = 0.0 if hits <= 0 else float(betaincinv(hits, trials - hits + 1, tail))
    high = 1.0 if hits >= trials else float(betaincinv(hits + 1, trials - hits, 1 - tail))
    return low, high


def summary(values: Floats, seed: int = 0) -> dict[str, float | int]:
    """Mean, standard deviation and the 95 % bootstrap interval of the mean over images."""
    count, rng = len(values), np.random.default_rng(seed)
    step = max(1, _MAX_DRAWS_PER_BATCH // count)
    means = np.empty(_RESAMPLES)
    for i in range(0, _RESAMPLES, step):
        batch_size = min(step, _RESAMPLES - i)
        means[i : i + batch_size] = rng.multinomial(count, np.full(count, 1 / count), size=batch_size) @ values / count
    low, high = np.quantile(means, [0.025, 0.975])
    mean = float(values.mean())
    # the quantiles of a constant can miss it by a rounding error
    return {
        "mean": mean,
        "std": float(values.std()),
        "ci_low": min(float(low), mean),
        "ci_high": max(float(high), mean),
        "n": count,
    }


def _check_pair(plain: Images, other: Images) -> None:
    check_images(plain, "plain")
    check_images(other, "other")
    if plain.shape != other.shape:
        raise ValueError(f"images must have one shape; got {list(plain.shape)} and {list(other.shape)}")
