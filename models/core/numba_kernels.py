"""Inner loops compiled by numba, each equal to the NumPy path beside its caller; None if numba is not installed.

All kernels are single-threaded: one worker process runs on each core, and threads do not survive a fork. numba widens
sums and shifts of small integers to 64 bits, which prevents vectorisation, so vectorised loops cast every step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def _compile(function: Callable[..., Any]) -> Any:
    try:
        from numba import njit
    except ImportError:
        return None
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract"}}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no writable cache folder, as in a read-only container
        return njit(**options)(function)


def compile_or_keep(function: Callable[..., Any]) -> Any:
    """For a loop without a NumPy path: without numba it runs as plain Python."""
    return _compile(function) or function


@_compile
def _rotate_left(word: Any, bits: Any) -> Any:
    """Rotate a uint32 left by 0 to 31 bits."""
    left, right = bits & np.uint32(31), (np.uint32(32) - bits) & np.uint32(31)
    return np.uint32(np.uint32(word << left) | np.uint32(word >> right))


def _shuffle_nibbles(words: Any, sources: Any, rotations: Any, flips: Any, out: Any) -> None:
    """Tanaka's block cipher. words, out: uint32 [N, H, 3 * W / 4], four bytes of the images in each word.

    A block is 12 words of 8 nibbles. Nibble k of output word m comes from input word sources[m, k], rotated left by
    rotations[m, k] bits to its place; the word is then XORed with flips[m]. The inner loop runs over blocks, with the
    12 words in separate rows, so that the compiler vectorises it over 16 blocks.
    """
    count, height, pitch = words.shape
    across = pitch // 3
    down = max(1, 96 // across)  # rows of blocks at a time: amortises the loop and stays in the L1 cache
    source_rows, result_rows = np.empty((12, down * across), np.uint32), np.empty((12, down * across), np.uint32)
    for n in range(count):
        for top in range(0, height, 4 * down):
            row_count = min(down, (height - top) // 4)
            for y in range(4 * row_count):
                row, at = words[n, top + y], y // 4 * across
                first, second, third = (
                    source_rows[y % 4 * 3, at:],
                    source_rows[y % 4 * 3 + 1, at:],
                    source_rows[y % 4 * 3 + 2, at:],
                )
                for x in range(across):
                    first[x] = row[3 * x]
                    second[x] = row[3 * x + 1]
                    third[x] = row[3 * x + 2]
            for m in range(12):
                s, t = sources[m], rotations[m]
                g0, g1, g2, g3 = source_rows[s[0]], source_rows[s[1]], source_rows[s[2]], source_rows[s[3]]
                g4, g5, g6, g7 = source_rows[s[4]], source_rows[s[5]], source_rows[s[6]], source_rows[s[7]]
                t0, t1, t2, t3, t4, t5, t6, t7 = t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]
                result, flip = result_rows[m], flips[m]
                for x in range(row_count * across):
                    value = _rotate_left(g0[x], t0) & np.uint32(0xF)
                    value |= _rotate_left(g1[x], t1) & np.uint32(0xF0)
                    value |= _rotate_left(g2[x], t2) & np.uint32(0xF00)
                    value |= _rotate_left(g3[x], t3) & np.uint32(0xF000)
                    value |= _rotate_left(g4[x], t4) & np.uint32(0xF0000)
                    value |= _rotate_left(g5[x], t5) & np.uint32(0xF00000)
                    value |= _rotate_left(g6[x], t6) & np.uint32(0xF000000)
                    value |= _rotate_left(g7[x], t7) & np.uint32(0xF0000000)
                    result[x] = value ^ flip
            for y in range(4 * row_count):
                row, at = out[n, top + y], y // 4 * across
                first, second, third = (
                    result_rows[y % 4 * 3, at:],
                    result_rows[y % 4 * 3 + 1, at:],
                    result_rows[y % 4 * 3 + 2, at:],
                )
                for x in range(across):
                    row[3 * x] = first[x]
                    row[3 * x + 1] = second[x]
                    row[3 * x + 2] = third[x]


def _shuffle_block_values(
    words: Any, inputs: Any, outputs: Any, offsets: Any, sources: Any, rotations: Any, flips: Any, out: Any
) -> None:
    """Move blocks, and their bytes by one map. words, out: uint32 [N, L], four bytes of the images in each word.

    Word m of a block lies offsets[m] behind its first word. The block at word outputs[b] is the one at inputs[b]. Byte
    k of its word m comes from word sources[m, k], rotated left by rotations[m, k] bits to its place; the word is then
    XORed with flips[m]. The inner loop runs over 16 blocks in separate columns, so that the compiler vectorises it.
    Unsigned indices spare the check for negative ones.
    """
    size = len(offsets)
    source_rows, result_rows = np.zeros((size, 16), np.uint32), np.empty((size, 16), np.uint32)
    for n in range(len(words)):
        for first in range(0, len(inputs), 16):
            count = min(16, len(inputs) - first)
            for b in range(count):
                start = inputs[first + b]
                for m in range(size):
                    source_rows[m, b] = words[n, start + offsets[m]]
            for m in range(size):
                s0, s1, s2, s3 = sources[m, 0], sources[m, 1], sources[m, 2], sources[m, 3]
                t0, t1, t2, t3 = rotations[m, 0], rotations[m, 1], rotations[m, 2], rotations[m, 3]
                flip = flips[m]
                for x in range(16):
                    value = _rotate_left(source_rows[s0, x], t0) & np.uint32(0xFF)
                    value |= _rotate_left(source_rows[s1, x], t1) & np.uint32(0xFF00)
                    value |= _rotate_left(source_rows[s2, x], t2) & np.uint32(0xFF0000)
                    value |= _rotate_left(source_rows[s3, x], t3) & np.uint32(0xFF000000)
                    result_rows[m, x] = value ^ flip
            for b in range(count):
                start = outputs[first + b]
                for m in range(size):
                    out[n, start + offsets[m]] = result_rows[m, b]


@_compile
def _bit_mask(transform: Any, bit: int) -> Any:
    """255 if the bit of the element is set, else 0."""
    return np.uint8(np.uint8(0) - np.uint8(np.uint8(transform >> np.uint8(bit)) & np.uint8(1)))


@_compile
def _select(a: Any, b: Any, mask: Any) -> Any:
    """b if the mask is 255, a if it is 0."""
    return np.uint8(a ^ np.uint8(np.uint8(a ^ b) & mask))


def _apply_pixel_transforms(images: Any, transforms: Any, out: Any) -> None:
    """Pixel-wise encryption. images, out: uint8 [N, P, 3]; transforms: uint8 [N, P], or [1, P] for all images.

    Bits of a transform: 0 and 1 select green or blue as the first output channel (else red); 2 and 3 select blue or red
    as the second (else green); 4, 5 and 6 invert red, green and blue beforehand. Without tables and branches, and with
    every value cast to uint8, the compiler vectorises the loop over 64 pixels.
    """
    for n in range(images.shape[0]):
        pixels, result = images[n].reshape(-1), out[n].reshape(-1)
        image_transforms = transforms[n if len(transforms) > 1 else 0]
        for p in range(images.shape[1]):
            e = image_transforms[p]
            red = np.uint8(pixels[3 * p] ^ _bit_mask(e, 4))
            green = np.uint8(pixels[3 * p + 1] ^ _bit_mask(e, 5))
            blue = np.uint8(pixels[3 * p + 2] ^ _bit_mask(e, 6))
            first = _select(_select(red, green, _bit_mask(e, 0)), blue, _bit_mask(e, 1))
            second = _select(_select(green, blue, _bit_mask(e, 2)), red, _bit_mask(e, 3))
            result[3 * p] = first
            result[3 * p + 1] = second
            third = np.uint8(np.uint8(red ^ green) ^ np.uint8(first ^ second))  # the remaining channel, XOR blue
            result[3 * p + 2] = np.uint8(blue ^ third)


def _rejection_sample(raw: Any, values: Any, rejected: int, out: Any) -> int:
    """Write values[raw[i]] to `out` until it is full, skipping `rejected` -> the number written. Arrays: uint8."""
    accepted = 0
    for i in range(len(raw)):
        if accepted == len(out):
            break
        value = values[raw[i]]
        out[accepted] = value
        accepted += value != rejected
    return accepted


@_compile
def _sum_seven(sums: Any, j: int) -> Any:
    return np.int32(sums[j] + sums[j + 3] + sums[j + 6] + sums[j + 9] + sums[j + 12] + sums[j + 15] + sums[j + 18])


def _ssim7(x: Any, y: Any, out: Any) -> None:
    """Mean SSIM of each image, uniform 7x7, sample covariance. x, y: uint8 [N, H, W, 3]; out: float64 [N].

    Column sums slide from row to row; a window sum adds seven column sums, one pixel (3 values) apart. All sums and
    their products are exact in int32. Only the quotient is float32, each of its four factors rounded twice: the error
    stays below 1e-6 and is about 1e-8 on photographs.
    """
    count, height, width, _ = x.shape
    pitch, inner = 3 * width, 3 * (width - 6)
    # The factors are scaled by 49 * 49 and by 49 * 48, which cancel in the quotient.
    c1, c2 = np.float32(49 * 49 * (0.01 * 255) ** 2), np.float32(49 * 48 * (0.03 * 255) ** 2)
    sx, sy = np.empty(pitch, np.int32), np.empty(pitch, np.int32)
    sq, sxy = np.empty(pitch, np.int32), np.empty(pitch, np.int32)
    line = np.empty(inner, np.float32)
    for n in range(count):
        a, b = x[n].reshape(height, pitch), y[n].reshape(height, pitch)
        sx[:], sy[:], sq[:], sxy[:] = 0, 0, 0, 0
        total = 0.0
        for row in range(height):
            for j in range(pitch):
                p, q = np.int32(a[row, j]), np.int32(b[row, j])
                sx[j] += p
                sy[j] += q
                sq[j] += p * p + q * q
                sxy[j] += p * q
            if row < 6:
                continue
            for j in range(inner):
                bx, by, bq, bxy = _sum_seven(sx, j), _sum_seven(sy, j), _sum_seven(sq, j), _sum_seven(sxy, j)
                cross, both = np.int32(2 * bx * by), np.int32(bx * bx + by * by)
                numerator = (np.float32(cross) + c1) * (np.float32(np.int32(98 * bxy - cross)) + c2)
                denominator = (np.float32(both) + c1) * (np.float32(np.int32(49 * bq - both)) + c2)
                line[j] = numerator / denominator
            for j in range(inner):  # in a loop of its own: a float64 sum would turn the loop above into float64
                total += np.float64(line[j])
            first = row - 6
            for j in range(pitch):
                p, q = np.int32(a[first, j]), np.int32(b[first, j])
                sx[j] -= p
                sy[j] -= q
                sq[j] -= p * p + q * q
                sxy[j] -= p * q
        out[n] = total / ((height - 6) * inner)


rejection_sample = _compile(_rejection_sample)
apply_pixel_transforms = _compile(_apply_pixel_transforms)
shuffle_nibbles = _compile(_shuffle_nibbles)
shuffle_block_values = _compile(_shuffle_block_values)
ssim7 = _compile(_ssim7)
