"""Image ciphers as one finds them in theses, blog posts and products, and sound ones.

All but the sound ones are weak. They were written before the detectors of `unveil.models.structural`, whose recall they
measure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from unveil.models.core.images import Images

Encrypt = Callable[[Images], Images]
MakeCipher = Callable[[np.random.Generator, int, int], Encrypt]  # random generator, height, width


@dataclass(frozen=True)
class HomemadeCipher:
    """make: draws the key. fresh: a part of the key is drawn anew for every image."""

    make: MakeCipher
    fresh: bool = False


def _bytes(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape, np.uint8)


def _to_blocks(images: Images, side: int) -> np.ndarray:
    n, h, w, c = images.shape
    cut = images.reshape(n, h // side, side, w // side, side, c)
    return cut.transpose(0, 1, 3, 2, 4, 5).reshape(n, -1, side, side, c)


def _from_blocks(blocks: np.ndarray, shape: tuple[int, ...]) -> Images:
    n, h, w, c = shape
    side = blocks.shape[2]
    cut = blocks.reshape(n, h // side, w // side, side, side, c)
    return np.ascontiguousarray(cut.transpose(0, 1, 3, 2, 4, 5).reshape(shape))


def _logistic(start: float, rate: float, count: int) -> np.ndarray:
    values = np.empty(count)
    x = start
    for i in range(count):
        x = rate * x * (1 - x)
        values[i] = x
    return values


def block_shuffle_xor(rng, h, w):
    """8x8 blocks are shuffled; each block and channel is XORed with a secret byte."""
    count = (h // 8) * (w // 8)
    order, key = rng.permutation(count), _bytes(rng, count, 1, 1, 3)
    return lambda images: _from_blocks(_to_blocks(images, 8)[:, order] ^ key, images.shape)


def fixed_keystream(rng, h, w):
    """AES-CTR with the nonce written into the program."""
    cipher = Cipher(algorithms.AES(rng.bytes(32)), modes.CTR(bytes(16)))
    stream = np.frombuffer(cipher.encryptor().update(bytes(h * w * 3)), np.uint8).reshape(h, w, 3)
    return lambda images: images ^ stream


def additive_mask(rng, h, w):
    """Vigenere: adds a secret image modulo 256."""
    mask = _bytes(rng, h, w, 3)
    return lambda images: images + mask


def one_keystream_for_all_rows(rng, h, w):
    """XORs every row with the same secret row."""
    row = _bytes(rng, 1, w, 3)
    return lambda images: images ^ row


def arnold_cat_map(rng, h, w):
    """The cat map (x, y) -> (x + y, x + 2y) of the largest square, applied a secret number of times."""
    side, times = min(h, w), int(rng.integers(3, 11))
    x, y = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    for _ in range(times):
        x, y = (x + y) % side, (x + 2 * y) % side

    def encrypt(images):
        out = images.copy()
        out[:, :side, :side] = images[:, x, y]
        return out

    return encrypt


def logistic_map(rng, h, w):
    """Pixels sorted by a logistic map, then XORed with a second one: the standard chaotic image cipher."""
    order = np.argsort(_logistic(rng.uniform(0.2, 0.4), 3.99, h * w))
    stream = (_logistic(rng.uniform(0.5, 0.7), 3.97, h * w * 3) * 1e6 % 256).astype(np.uint8).reshape(h * w, 3)
    return lambda images: (images.reshape(len(images), -1, 3)[:, order] ^ stream).reshape(images.shape)


def rubiks_cube(rng, h, w):
    """Rows, then columns are rotated by secret numbers of pixels."""
    rows = (np.arange(w)[None] + rng.integers(0, w, h)[:, None]) % w
    columns = (np.arange(h)[:, None] + rng.integers(0, h, w)[None]) % h
    return lambda images: images[:, np.arange(h)[:, None], rows][:, columns, np.arange(w)[None]]


def row_and_column_shuffle(rng, h, w):
    """Rows and columns are permuted, for each channel by other permutations."""
    orders = [(rng.permutation(h), rng.permutation(w)) for _ in range(3)]
    return lambda images: np.stack([images[..., c][:, r][:, :, k] for c, (r, k) in enumerate(orders)], -1)


def one_s_box(rng, h, w):
    """A secret permutation of the 256 values, one for all pixels."""
    table = rng.permutation(256).astype(np.uint8)
    return lambda images: table[images]


def s_box_per_position(rng, h, w):
    """A secret permutation of the 256 values for every value of the image."""
    tables = rng.permuted(np.tile(np.arange(256, dtype=np.uint8), (h * w * 3, 1)), axis=1)
    where = np.arange(h * w * 3)
    return lambda images: tables[where, images.reshape(len(images), -1)].reshape(images.shape)


def affine_cipher(rng, h, w):
    """a p + b modulo 256 with secret a (odd) and b at every position."""
    a, b = _bytes(rng, h, w, 3) | 1, _bytes(rng, h, w, 3)
    return lambda images: a * images + b


def aes_ecb(rng, h, w):
    """AES-ECB over the bytes of the image."""
    key = rng.bytes(32)

    def encrypt(images):
        data = images.tobytes()
        tail = len(data) % 16
        cut = len(data) - tail
        out = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(data[:cut]) + data[cut:]
        return np.frombuffer(out, np.uint8).reshape(images.shape).copy()

    return encrypt


def pixel_codebook(rng, h, w):
    """A Feistel cipher on the 24 bits of each pixel, the same for all pixels."""
    tables = rng.integers(0, 4096, (4, 4096))

    def encrypt(images):
        r, g, b = (images[..., c].astype(np.int64) for c in range(3))
        left, right = r << 4 | g >> 4, (g & 15) << 8 | b
        for table in tables:
            left, right = right, left ^ table[right]
        return np.stack([left >> 4, (left & 15) << 4 | right >> 8, right & 255], -1).astype(np.uint8)

    return encrypt


def hill_cipher(rng, h, w):
    """Four values at a time are multiplied by a secret matrix modulo 256."""
    while True:
        matrix = _bytes(rng, 4, 4)
        if round(np.linalg.det(matrix.astype(float))) % 2:
            break
    return lambda images: (images.reshape(-1, 4) @ matrix).astype(np.uint8).reshape(images.shape)


def orthogonal_blocks(rng, h, w):
    """Every 4x4 block is rotated by a secret orthogonal matrix, then scaled to 8 bits."""
    matrix = np.linalg.qr(rng.standard_normal((48, 48)))[0]

    def encrypt(images):
        blocks = _to_blocks(images, 4)
        out = (blocks.reshape(*blocks.shape[:2], 48) - 127.5) @ matrix * 0.45 + 127.5
        return _from_blocks(np.clip(np.rint(out), 0, 255).astype(np.uint8).reshape(blocks.shape), images.shape)

    return encrypt


def blend_with_secret_image(rng, h, w):
    """A quarter of the image, three quarters of a secret noise image."""
    secret = rng.uniform(0, 255, (h, w, 3))
    return lambda images: np.rint(0.25 * images + 0.75 * secret).astype(np.uint8)


def bit_shuffle_and_pixel_shuffle(rng, h, w):
    """The bits of each value are permuted, and all values of the image are."""
    bits, order = rng.permutation(8), rng.permutation(h * w * 3)

    def encrypt(images):
        moved = np.packbits(np.unpackbits(images[..., None], axis=-1)[..., bits], axis=-1)[..., 0]
        return moved.reshape(len(images), -1)[:, order].reshape(images.shape)

    return encrypt


def block_bit_permutation(rng, h, w):
    """The 384 bits of each 4x4 block are permuted, by one permutation for all blocks."""
    order = rng.permutation(384)

    def encrypt(images):
        blocks = _to_blocks(images, 4)
        bits = np.unpackbits(blocks.reshape(*blocks.shape[:2], 48), axis=-1)[..., order]
        return _from_blocks(np.packbits(bits, axis=-1).reshape(blocks.shape), images.shape)

    return encrypt


def shuffle_and_chain(rng, h, w):
    """Values are permuted, then c[i] = p[i] XOR c[i - 1] XOR k[i]: confusion and diffusion."""
    order, key = rng.permutation(h * w * 3), _bytes(rng, h * w * 3)

    def encrypt(images):
        return np.bitwise_xor.accumulate(images.reshape(len(images), -1)[:, order] ^ key, axis=1).reshape(images.shape)

    return encrypt


def additive_chain(rng, h, w):
    """c[i] = p[i] + c[i - 1] + k[i] modulo 256, colour plane after colour plane."""
    key = _bytes(rng, h * w * 3)

    def encrypt(images):
        planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1) + key
        out = np.cumsum(planes, axis=1, dtype=np.uint8).reshape(len(images), 3, h, w)
        return np.ascontiguousarray(out.transpose(0, 2, 3, 1))

    return encrypt


def dna_coding(rng, h, w):
    """Pairs of bits are coded as bases by a rule for each position, and added to a secret strand."""
    rules = np.array([rng.permutation(4) for _ in range(8)])
    rule, strand = rng.integers(0, 8, (h, w, 3)), rng.integers(0, 4, (h, w, 3, 4))

    def encrypt(images):
        pairs = images[..., None] >> np.array([6, 4, 2, 0]) & 3
        coded = (rules[rule[..., None], pairs] + strand) % 4
        return (coded << np.array([6, 4, 2, 0])).sum(-1).astype(np.uint8)

    return encrypt


def nibble_shuffle_8x8(rng, h, w):
    """Tanaka's idea with 8x8 blocks: 384 nibbles are permuted and inverted, alike in all blocks."""
    order, flips = rng.permutation(384), rng.integers(0, 2, 384).astype(np.uint8) * np.uint8(15)

    def encrypt(images):
        blocks = _to_blocks(images, 8)
        flat = blocks.reshape(*blocks.shape[:2], 192)
        nibbles = np.concatenate([flat >> 4, flat & 15], -1)[..., order] ^ flips
        return _from_blocks((nibbles[..., :192] << 4 | nibbles[..., 192:]).reshape(blocks.shape), images.shape)

    return encrypt


def dct_sign_flips(rng, h, w):
    """The signs of the 8x8 DCT coefficients are flipped by a secret pattern, the mean kept."""
    k = np.arange(8)
    dct = np.sqrt(np.where(k == 0, 1, 2) / 8)[:, None] * np.cos(np.pi * (2 * k[None] + 1) * k[:, None] / 16)
    signs = rng.choice([-1.0, 1.0], (8, 8, 3))
    signs[0, 0] = 1

    def encrypt(images):
        blocks = _to_blocks(images, 8).astype(float)
        coefficients = np.einsum("ij,nbjkc,lk->nbilc", dct, blocks, dct, optimize=True) * signs
        out = np.einsum("ji,nbjkc,kl->nbilc", dct, coefficients, dct, optimize=True)
        return _from_blocks(np.clip(np.rint(out), 0, 255).astype(np.uint8), images.shape)

    return encrypt


def spiral_scan(rng, h, w):
    """Pixels in the order of a spiral, and one XOR byte for the whole image."""
    grid, order = np.arange(h * w).reshape(h, w), []
    while grid.size:
        order.append(grid[0])
        grid = np.rot90(grid[1:])
    sequence, key = np.concatenate(order), int(rng.integers(1, 256))
    return lambda images: (images.reshape(len(images), -1, 3)[:, sequence] ^ np.uint8(key)).reshape(images.shape)


def colour_matrix_per_pixel(rng, h, w):
    """A secret 3x3 rotation of the colours at each pixel, scaled to 8 bits."""
    matrices = np.linalg.qr(rng.standard_normal((h, w, 3, 3)))[0]

    def encrypt(images):
        out = np.einsum("nhwc,hwcd->nhwd", images - 127.5, matrices) * 0.57 + 127.5
        return np.clip(np.rint(out), 0, 255).astype(np.uint8)

    return encrypt


def upper_nibbles_only(rng, h, w):
    """Selective encryption: a fresh keystream over the upper halves, the lower halves in clear."""

    def encrypt(images):
        stream = _bytes(rng, *images.shape)
        return images ^ (stream & np.uint8(0xF0))

    return encrypt


def one_channel_only(rng, h, w):
    """Selective encryption: a fresh keystream over the green channel."""

    def encrypt(images):
        out = images.copy()
        out[..., 1] ^= _bytes(rng, *out.shape[:3])
        return out

    return encrypt


def fresh_block_shuffle(rng, h, w):
    """16x16 blocks in a fresh order for every image."""

    def encrypt(images):
        blocks = _to_blocks(images, 16)
        orders = np.stack([rng.permutation(blocks.shape[1]) for _ in images])
        return _from_blocks(np.take_along_axis(blocks, orders[:, :, None, None, None], 1), images.shape)

    return encrypt


def keystream_from_the_image(rng, h, w):
    """The keystream is seeded by the sum of the pixels, so that each image seems to have its own."""

    def encrypt(images):
        streams = [_bytes(np.random.default_rng(int(image.sum(dtype=np.int64)) % 4096), h, w, 3) for image in images]
        return images ^ np.stack(streams) if len(images) else images.copy()

    return encrypt


def short_keystream(rng, h, w):
    """XOR with a secret of 251 bytes that repeats, from a fresh offset for every image."""
    secret = _bytes(rng, 251)

    def encrypt(images):
        starts = rng.integers(0, 251, len(images))
        index = (np.arange(h * w * 3)[None] + starts[:, None]) % 251
        return (images.reshape(len(images), -1) ^ secret[index]).reshape(images.shape)

    return encrypt


def scrambled_line_halves(rng, h, w):
    """Each row is cut at a secret point and its parts exchanged, as pay television did; then inverted or not."""
    shift = (np.arange(w)[None] + rng.integers(0, w, h)[:, None]) % w
    flips = rng.integers(0, 2, (h, 1, 1)).astype(np.uint8) * np.uint8(255)
    return lambda images: images[:, np.arange(h)[:, None], shift] ^ flips


def _per_image(make: Callable[[bytes, bytes], Cipher]) -> MakeCipher:
    """A sound cipher: a fresh nonce for each image."""

    def draw(rng: np.random.Generator, h: int, w: int) -> Encrypt:
        key = rng.bytes(32)

        def encrypt(images: Images) -> Images:
            out = [make(key, rng.bytes(16)).encryptor().update(image.tobytes()) for image in images]
            return np.frombuffer(b"".join(out), np.uint8).reshape(images.shape).copy()

        return encrypt

    return draw


WEAK: Mapping[str, HomemadeCipher] = {
    make.__name__.replace("_", "-"): HomemadeCipher(make, fresh)
    for fresh, makes in {
        False: (
            block_shuffle_xor, fixed_keystream, additive_mask, one_keystream_for_all_rows, arnold_cat_map,
            logistic_map, rubiks_cube, row_and_column_shuffle, one_s_box, s_box_per_position, affine_cipher, aes_ecb,
            pixel_codebook, hill_cipher, orthogonal_blocks, blend_with_secret_image, bit_shuffle_and_pixel_shuffle,
            block_bit_permutation, shuffle_and_chain, additive_chain, dna_coding, nibble_shuffle_8x8, dct_sign_flips,
            spiral_scan, colour_matrix_per_pixel, scrambled_line_halves, keystream_from_the_image,
        ),
        True: (upper_nibbles_only, one_channel_only, fresh_block_shuffle, short_keystream),
    }.items()
    for make in makes
}  # fmt: skip

SOUND: Mapping[str, HomemadeCipher] = {
    "aes-ctr": HomemadeCipher(_per_image(lambda key, nonce: Cipher(algorithms.AES(key), modes.CTR(nonce))), True),
    "chacha20": HomemadeCipher(_per_image(lambda key, nonce: Cipher(algorithms.ChaCha20(key, nonce), None)), True),
}
