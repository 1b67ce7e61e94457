"""Pixel-wise encryption and Tanaka's scheme as a stranger would write them: other names, other orders, own keys."""

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unveil.models.core.settings_schema import setting
from unveil.models.core.structure import BlockMap, PixelMap
from unveil.models.schemes.base import Scheme


def generator(seed):
    return np.random.default_rng(list(seed))


@dataclass(frozen=True)
class ColourMixSettings:
    fresh: Literal["no", "yes"] = setting("no", "yes: a separate key for each image")


class ColourMix(Scheme):
    """Channels are permuted first and inverted afterwards; the key holds one number in 0..47 for each pixel."""

    name = "acme/colour-mix"
    Settings = ColourMixSettings
    structure = PixelMap()
    orders = np.array(list(itertools.permutations((2, 1, 0))))

    @property
    def key_per_image(self):
        return self.settings.fresh == "yes"

    def key_space_bits(self, height, width):
        return height * width * np.log2(48)

    def derive(self, seed, height, width):
        return generator(seed).integers(0, 48, (height, width))

    def encrypt(self, images, key):
        moved = np.take_along_axis(images, self.orders[key // 8][None], axis=3)
        return moved ^ ((key[..., None] >> np.arange(3) & 1) * 255).astype(np.uint8)

    def decrypt(self, images, key):
        plain = images ^ ((key[..., None] >> np.arange(3) & 1) * 255).astype(np.uint8)
        return np.take_along_axis(plain, np.argsort(self.orders[key // 8], axis=2)[None], axis=3)


class NibbleBlocks(Scheme):
    """The nibbles of each 4x4 block, channel by channel, the upper one of each value first; inverted after the move."""

    name = "acme/nibble-blocks"
    structure = BlockMap(4, "nibble")
    size_multiple = 4

    def key_space_bits(self, height, width):
        return 594.277

    def derive(self, seed, height, width):
        rng = generator(seed)
        return rng.permutation(96), rng.integers(0, 2, 96).astype(np.uint8) * np.uint8(15)

    def _split(self, images):
        count, height, width, _ = images.shape
        cut = images.reshape(count, height // 4, 4, width // 4, 4, 3).transpose(0, 1, 3, 5, 4, 2)
        return np.stack([cut >> 4, cut & 15], axis=-1).reshape(count, height // 4, width // 4, 96)

    def _join(self, nibbles):
        count, rows, columns, _ = nibbles.shape
        pairs = nibbles.reshape(count, rows, columns, 3, 4, 4, 2)
        values = pairs[..., 0] * np.uint8(16) + pairs[..., 1]
        return values.transpose(0, 1, 5, 2, 4, 3).reshape(count, rows * 4, columns * 4, 3)

    def encrypt(self, images, key):
        order, flips = key
        return self._join(self._split(images)[..., order] ^ flips)

    def decrypt(self, images, key):
        order, flips = key
        return self._join((self._split(images) ^ flips)[..., np.argsort(order)])
