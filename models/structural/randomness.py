"""Tests of ciphertexts alone: under a sound cipher with a fresh nonce for each image, all values are uniform.

Each test has a p-value that holds for independent uniform values, exactly or as the limit of a sum of many terms. The
p-values are corrected for the number of tests (Bonferroni).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from unveil.models.core.images import Images
from unveil.models.structural.chaining import CHAINS
from unveil.models.structural.codebook import row_hashes
from unveil.models.structural.layouts import Layout, Runs, Tiles

ERROR = 0.01  # of a false finding, over all tests together

BITS_OF_POSITIONS = "bits of positions"  # the name of the test that finds a mask

_MAX_IMAGES = 200
_COMPRESSED_BYTES = 2_000_000
_VARIANCE = (256**2 - 1) / 12  # of a uniform value
_LAGS = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (0, 8), (8, 0))  # rows, columns
_CODE_LAYOUTS: tuple[Layout, ...] = (Tiles(1, 1), Tiles(2, 2), Tiles(4, 4), Tiles(8, 8), Runs(8), Runs(16))


@dataclass(frozen=True)
class RandomnessTest:
    """statement: of what was found, should it be significant. p_value: corrected for the number of tests."""

    name: str
    statement: str
    p_value: float

    @property
    def significant(self) -> bool:
        return self.p_value <= ERROR


def run_tests(ciphertexts: Images) -> list[RandomnessTest]:
    """Every test that images uint8 [N, H, W, 3] allow, the most significant first."""
    images = ciphertexts[:_MAX_IMAGES]
    tests = [*_values(images), *_codes(images), *_compression(images), *_neighbours(images)]
    if len(images) > 1:
        tests += [*_positions(images), *_brightness(images)]
        for chain in CHAINS:
            tests += _positions(chain.undo(images), f"if {chain.description}, then ")
    corrected = [RandomnessTest(test.name, test.statement, min(1.0, test.p_value * len(tests))) for test in tests]
    return sorted(corrected, key=lambda test: test.p_value)


def _values(images: Images) -> Iterator[RandomnessTest]:
    from scipy.stats import chi2

    counts = np.bincount(images.ravel(), minlength=256)
    common = int(counts.argmax())
    yield RandomnessTest(
        "values",
        f"values are not uniform: {common} makes up {100 * counts[common] / counts.sum():.2f} % of them, not 0.39 %",
        float(chi2.sf(_chi_square(counts[None]), 255)),
    )
    height, width = (side // 8 * 8 for side in images.shape[1:3])
    if height and width:
        cells = images[:, :height, :width].reshape(len(images), height // 8, 8, width // 8, 8, 3)
        places = np.arange(192).reshape(8, 1, 8, 3)
        codes = (cells.astype(np.int64) + 256 * places).ravel()
        by_place = np.bincount(codes, minlength=192 * 256).reshape(192, 256)
        yield RandomnessTest(
            "positions in blocks",
            "values are not uniform at the positions of 8x8 blocks",
            float(chi2.sf(_chi_square(by_place), 192 * 255)),
        )


def _chi_square(counts: np.ndarray) -> float:
    expected = counts.sum(axis=1, keepdims=True) / counts.shape[1]
    return float(((counts - expected) ** 2 / np.maximum(expected, 1e-9)).sum())


def _codes(images: Images) -> Iterator[RandomnessTest]:
    for layout in _CODE_LAYOUTS:
        if not layout.fits(images.shape):
            continue
        rows = layout.split(images)
        sizes = np.unique(row_hashes(rows), return_counts=True)[1].astype(np.float64)
        repeats = float((sizes * (sizes - 1) / 2).sum())
        expected = len(rows) * (len(rows) - 1) / 2 * 256.0 ** -rows.shape[1]
        yield RandomnessTest(
            f"repeats of a {layout.title}",
            f"ciphertexts of a {layout.title} repeat: {repeats:,.0f} pairs are equal, {expected:.2g} expected by "
            "chance (the same plain block gives the same ciphertext?)",
            _poisson_tail(repeats, expected),
        )


def _poisson_tail(count: float, expected: float) -> float:
    """At least `count` events. Equal pairs of one value are not independent of each other, so events come in threes."""
    from scipy.special import gammainc

    return 1.0 if count < 1 else float(gammainc(count, expected))


def _compression(images: Images) -> Iterator[RandomnessTest]:
    for name, data in (("rows", images), ("planes", images.transpose(0, 3, 1, 2))):
        raw = np.ascontiguousarray(data).tobytes()[:_COMPRESSED_BYTES]
        saved = len(raw) - len(zlib.compress(raw, 6))
        # At most one in 256^(k - 1) texts has a compressed form that is k bytes shorter.
        yield RandomnessTest(
            f"compression of {name}",
            f"zlib compresses the {name} by {100 * saved / len(raw):.1f} %",
            256.0 ** -min(100, max(0, saved - 1)),
        )


def _neighbours(images: Images) -> Iterator[RandomnessTest]:
    for part, values in (("values", images), ("lower nibbles", images & 15)):
        variance = _VARIANCE if part == "values" else (16**2 - 1) / 12
        centred = values.astype(np.float32) - (127.5 if part == "values" else 7.5)
        for rows, columns in _LAGS:
            if rows < images.shape[1] and columns < images.shape[2]:
                first = centred[:, : images.shape[1] - rows, : images.shape[2] - columns]
                name = f"{part} {columns} to the right and {rows} below"
                yield _correlation(name, first, centred[:, rows:, columns:], variance)
        yield _correlation(f"{part} of two channels", centred[..., :2], centred[..., 1:], variance)


def _correlation(name: str, first: np.ndarray, second: np.ndarray, variance: float) -> RandomnessTest:
    correlation = float((first * second).mean(dtype=np.float64)) / variance
    return RandomnessTest(
        f"correlation with {name}",
        f"{name} are correlated ({correlation:+.3f})",
        math.erfc(abs(correlation) * math.sqrt(first.size / 2)),
    )


def _positions(images: Images, condition: str = "") -> Iterator[RandomnessTest]:
    """The mean of each bit of each position over the images, and equal values of two images."""
    count = len(images)
    flat = images.reshape(count, -1)
    square_sum, coincidences = 0.0, 0.0
    for bit in range(8):
        ones = (flat >> np.uint8(bit) & 1).sum(axis=0, dtype=np.int64)
        square_sum += float(((2 * ones - count) ** 2).sum()) / count
    bits = 8 * flat.shape[1]
    z = (square_sum - bits) / math.sqrt(bits * (2 - 2 / count))
    yield RandomnessTest(
        condition + BITS_OF_POSITIONS,
        f"{condition}bits at the same position of two images agree too often (one keystream or mask for all images?)",
        0.5 * math.erfc(z / math.sqrt(2)),
    )
    for chunk in np.array_split(np.sort(flat, axis=0), max(1, flat.size // 4_000_000), axis=1):
        run = np.zeros(chunk.shape[1])
        for equal in chunk[1:] == chunk[:-1]:
            run = (run + 1) * equal
            coincidences += run.sum()
    trials = flat.shape[1] * count * (count - 1) / 2
    yield RandomnessTest(
        f"{condition}values of positions",
        f"{condition}two images have the same value at a position in {100 * coincidences / trials:.2f} % of cases, "
        "not 0.39 % (a separate substitution for each position?)",
        _poisson_tail(coincidences, trials / 256),
    )


def _brightness(images: Images) -> Iterator[RandomnessTest]:
    from scipy.stats import chi2

    pixels = images.shape[1] * images.shape[2]
    means = images.mean(axis=(1, 2), dtype=np.float64)
    square_sum = float(((means - 127.5) ** 2).sum()) * pixels / _VARIANCE
    yield RandomnessTest(
        "brightness of images",
        f"the mean of an image varies by {means.std():.1f} grey levels, not {math.sqrt(_VARIANCE / pixels):.1f} "
        "(ciphertexts keep the brightness of the images?)",
        float(chi2.sf(square_sum, means.size)),
    )
