"""Schemes, metrics, PNG and key recovery: ours against the peer that a user would otherwise take."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from PIL import Image
from skimage.metrics import structural_similarity

from benchmarks import plain_recovery
from benchmarks.results import Goal, Row
from benchmarks.timing import Job
from unveil.models.core.images import Images, to_png
from unveil.models.data.dead_leaves import dead_leaves
from unveil.models.metrics.comparisons import SCALES
from unveil.models.metrics.gallery import build_gallery
from unveil.models.metrics.matching import match
from unveil.models.metrics.ssim import ssim
from unveil.models.recovery import pixelwise as pixelwise_recovery
from unveil.models.recovery import tanaka as tanaka_recovery
from unveil.models.schemes.base import seed_secret
from unveil.models.schemes.pixelwise import ORDERS, Pixelwise, PixelwiseSettings
from unveil.models.schemes.tanaka import Tanaka, TanakaSettings

SECRET = seed_secret(bytes(range(32)))


def kernels() -> Iterator[Job]:
    images = dead_leaves(1000, seed=0)
    copy = _per_image(lambda x: x.copy(), images)

    tanaka = Tanaka(TanakaSettings())
    key = tanaka.key(SECRET, 96, 96)
    yield Job(
        "Tanaka, batch of 1,000",
        "NumPy, one gather of nibbles",
        _per_image(lambda x: tanaka.encrypt(x, key), images),
        _per_image(lambda x: _tanaka_numpy(x, key.permutation, key.reversed), images),
        limit=("one copy", copy),
        goal=Goal("at most", 10),
    )
    same = Pixelwise(PixelwiseSettings())
    same_key = same.key(SECRET, 96, 96)
    yield Job(
        "pixelwise, same key, map ready",
        "NumPy XOR + take_along_axis",
        _per_image(lambda x: same.encrypt(x, same_key), images),
        _per_image(lambda x: _pixelwise_numpy(x, same_key.reversed, same_key.orders), images),
        limit=("one copy", copy),
        goal=Goal("at most", 8),
    )
    different = Pixelwise(PixelwiseSettings(key_mode="different"))
    generator = np.random.default_rng(0)
    yield Job(
        "pixelwise, different keys, key stream included",
        "NumPy XOR + take_along_axis, maps by NumPy's generator",
        _per_image(lambda x: different.protect(x, SECRET), images),
        _per_image(lambda x: _different_numpy(x, generator), images),
        limit=("AES-256-CTR over the stream's bytes", _per_image(_aes, images[:100])),
        goal=Goal("at most", 60),
    )
    few_images = images[:100]
    noisy = few_images ^ np.uint8(9)
    yield Job(
        "SSIM rgb7",
        "scikit-image, one call an image",
        (lambda: ssim(few_images, noisy), len(few_images)),
        (
            lambda: [
                structural_similarity(a, b, channel_axis=2, data_range=255)
                for a, b in zip(few_images, noisy, strict=True)
            ],
            len(few_images),
        ),
        limit=("two copies", (lambda: (few_images.copy(), noisy.copy()), len(few_images))),
        goal=Goal("at most", 60),
    )
    protected = tanaka.encrypt(few_images, key)
    yield Job(
        "PNG of a protected image",
        "Pillow, default level",
        (lambda: [to_png(x) for x in protected], len(few_images)),
        (lambda: [_pillow(x) for x in protected], len(few_images)),
        limit=("one copy", (protected.copy, len(few_images))),
        goal=Goal("at most", 60),
    )
    plain, reconstructed = images[:500], images[:500] ^ np.uint8(40)
    gallery = build_gallery(plain)
    yield Job(
        "identification, 500 x 500, 17 comparisons",
        "the matrix products of four correlations alone",
        (lambda: match(reconstructed, plain, gallery), 500),
        (lambda: _correlations(plain, reconstructed), 500),
        goal=Goal("at most", 20_000),
    )


def recovery() -> Iterator[Job]:
    fifty = dead_leaves(50, seed=0)
    ciphertexts = Pixelwise(PixelwiseSettings()).protect(fifty, SECRET)
    yield Job(
        "key recovery, pixelwise, 50 ciphertexts",
        "plain NumPy, pixel by pixel",
        (lambda: pixelwise_recovery.recover_relative_key(ciphertexts), 1),
        (lambda: plain_recovery.pixelwise(ciphertexts), 1),
        goal=Goal("at most", 500),
        unit="ms a key",
    )
    tanaka_ciphertexts = Tanaka(TanakaSettings()).protect(fifty, SECRET)
    yield Job(
        "key recovery, Tanaka, 50 ciphertexts",
        "plain NumPy, pair by pair",
        (lambda: tanaka_recovery.recover_permutation(tanaka_ciphertexts), 1),
        (lambda: plain_recovery.tanaka(tanaka_ciphertexts), 1),
        goal=Goal("at most", 500),
        unit="ms a key",
    )


def size_of_png() -> Row:
    """A PNG of a protected image beside its raw pixels."""
    protected = Tanaka(TanakaSettings()).protect(dead_leaves(100, seed=0), SECRET)
    ours = sum(len(to_png(image)) for image in protected) / len(protected)
    pillow = sum(len(_pillow(image)) for image in protected) / len(protected)
    raw = protected[0].nbytes
    return Row(
        "size of the PNG of a protected image", "bytes", ours, ("Pillow, default level", pillow), pillow / ours,
        ("raw pixels", raw), Goal("at most", 1.01 * raw),
    )  # fmt: skip


def _per_image(function: Callable[[Images], object], images: Images) -> tuple[Callable[[], object], int]:
    return (lambda: function(images)), len(images)


def _correlations(plain: Images, reconstructed: Images) -> None:
    a, b = (images.reshape(len(images), -1)[:, : 96 * 96].astype(np.float32) for images in (plain, reconstructed))
    for scale in SCALES:
        a[:, : 9216 // scale**2] @ b[:, : 9216 // scale**2].T


def _aes(images: Images) -> None:
    """As many bytes as the key stream of each image reads: one a pixel, and one in 16 is refused."""
    zeros = bytes(96 * 96 * 256 // 240)
    for i in range(len(images)):
        Cipher(algorithms.AES256(SECRET[1:]), modes.CTR(i.to_bytes(16, "big"))).encryptor().update(zeros)


def _tanaka_numpy(images: Images, permutation: np.ndarray, flips: np.ndarray) -> Images:
    """The obvious way: blocks, two nibble planes, XOR, gather, join."""
    count, height, width, _ = images.shape
    blocks = images.reshape(count, height // 4, 4, width // 4, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 48)
    values = np.concatenate([blocks % 16, blocks // 16], axis=1)
    values[:, flips] = 15 - values[:, flips]
    values = values[:, permutation]
    joined = values[:, 48:] * 16 + values[:, :48]
    shape = (count, height // 4, width // 4, 4, 4, 3)
    return joined.reshape(shape).transpose(0, 1, 3, 2, 4, 5).reshape(images.shape)


def _pixelwise_numpy(images: Images, flips: np.ndarray, orders: np.ndarray) -> Images:
    return np.take_along_axis(images ^ (flips * np.uint8(255)), ORDERS[orders][None].astype(np.int64), axis=3)


def _different_numpy(images: Images, generator: np.random.Generator) -> Images:
    flips = generator.integers(0, 2, images.shape, np.uint8) * np.uint8(255)
    orders = generator.integers(0, 6, images.shape[:3], np.uint8)
    return np.take_along_axis(images ^ flips, ORDERS[orders].astype(np.int64), axis=3)


def _pillow(image: Images) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
