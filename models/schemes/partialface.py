"""PartialFace: a random subset of the frequency channels of each image (Mi et al. 2023) [R].

The tables of subsets and orders are those of the published implementation. What a client computes is complete: nothing
in it is trained. The service that receives the channels trains a face recogniser on them, which protects nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unveil.models.core import keystream
from unveil.models.core.frequency_channels import CHANNELS, RANGE, Floats, to_channels, to_planes
from unveil.models.core.images import Images, check_images, quantise
from unveil.models.core.settings_schema import ParameterError
from unveil.models.core.structure import ChannelSubset, CiphertextFormat
from unveil.models.schemes.base import NoSettings, Scheme
from unveil.models.schemes.key_json import check_fields

DROPPED = (0, 1, 2, 3, 8, 9, 10, 16, 17, 24)  # the channels of the lowest frequencies
# Of the published implementation: numbers of the 54 other channels, from low to high.
_SUBSETS = (
    (1, 24, 28, 12, 32, 45, 47, 40, 52),
    (35, 39, 44, 42, 10, 4, 37, 31, 53),
    (0, 50, 19, 6, 22, 51, 49, 23, 21),
    (38, 8, 25, 13, 17, 30, 7, 33, 9),
    (26, 29, 16, 2, 43, 14, 5, 11, 48),
    (36, 41, 46, 34, 15, 27, 18, 20, 3),
)
ORDERS = ((0, 1, 2, 3, 4, 5, 6, 7, 8), (7, 3, 0, 6, 5, 4, 1, 2, 8), (4, 8, 6, 0, 2, 5, 3, 7, 1))
_KEPT = tuple(channel for channel in range(CHANNELS) if channel not in DROPPED)
SUBSETS = tuple(tuple(_KEPT[number] for number in subset) for subset in _SUBSETS)

# Of the 8-bit view, for Y, Cb and Cr: four standard deviations of the sums of photographs fill half of the range.
_GAINS = np.array((16, 64, 64), np.float32)
_CONTROL_CONTRAST = np.float32(8)


@dataclass(frozen=True)
class PartialFaceKey:
    """subset: of the channels, 0..5. order: of the nine channels of each colour, 0..2."""

    subset: int
    order: int

    @property
    def channels(self) -> tuple[int, ...]:
        """The nine channels of each colour, in the order of the ciphertext."""
        return tuple(SUBSETS[self.subset][place] for place in ORDERS[self.order])


class PartialFace(Scheme[NoSettings, PartialFaceKey]):
    """Each image is reduced to nine frequency channels of each colour; subset and order are drawn for the image.

    The channels are those of the 8x8 DCT of the image enlarged eightfold, without the ten lowest. There are six
    subsets and three orders, all public, so an image has 18 keys. The published training shows a recogniser three draws
    of each image; here each image is encrypted once. The 8-bit view is the sum of the nine channels of Y, Cb and Cr,
    times 16, 64 and 64, around 127.5: it does not depend on the order.
    """

    name = "partialface"
    title = "PartialFace"
    source = "Mi et al. 2023 [R]"
    key_per_image = True

    @property
    def structure(self) -> ChannelSubset:
        return ChannelSubset(SUBSETS, ORDERS)

    @property
    def ciphertext(self) -> CiphertextFormat:
        return CiphertextFormat("float32", -RANGE, RANGE, (3 * len(ORDERS[0]), "H", "W"))

    def key_space_bits(self, height: int, width: int) -> float:  # noqa: ARG002 - the same for all sizes
        return math.log2(len(SUBSETS) * len(ORDERS))

    def derive(self, seed: bytes, height: int, width: int) -> PartialFaceKey:  # noqa: ARG002 - fits every size
        number = int.from_bytes(keystream.keystream_bytes(seed, "partialface", 16), "big")
        order, subset = divmod(number % (len(SUBSETS) * len(ORDERS)), len(SUBSETS))
        return PartialFaceKey(subset, order)

    def encrypt(self, images: Images, key: PartialFaceKey) -> Floats:
        check_images(images)
        channels = to_channels(to_planes(images), key.channels)
        return channels.reshape(len(images), 3 * len(ORDERS[0]), *images.shape[1:3])

    def view(self, ciphertexts: Floats, shape: tuple[int, ...]) -> Images:
        count, height, width, _ = shape
        sums = ciphertexts.reshape(count, 3, len(ORDERS[0]), height, width).sum(axis=2)
        return quantise(127.5 + sums.transpose(0, 2, 3, 1) * _GAINS)

    def from_view(self, images: Images) -> Floats:
        """The channels of `images` at a high contrast, to which the part that gives them this view adds little."""
        count, height, width, _ = images.shape
        channels = to_channels(_CONTROL_CONTRAST * to_planes(images), PartialFaceKey(0, 0).channels)
        wanted = ((images.astype(np.float32) - 127.5) / _GAINS).transpose(0, 3, 1, 2)
        channels += ((wanted - channels.sum(axis=2)) / channels.shape[2])[:, :, None]
        return channels.reshape(count, 3 * len(ORDERS[0]), height, width)

    def key_to_json(self, key: PartialFaceKey) -> dict[str, Any]:
        return {"subset": key.subset, "order": key.order}

    def key_from_json(self, material: Mapping[str, Any]) -> PartialFaceKey:
        """subset: 0..5. order: 0..2."""
        check_fields(material, {"subset", "order"})
        errors = []
        for name, choices in (("subset", len(SUBSETS)), ("order", len(ORDERS))):
            value = material.get(name)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < choices:
                errors.append((f"/{name}", f"must be an integer from 0 to {choices - 1}"))
        if errors:
            raise ParameterError(errors)
        return PartialFaceKey(material["subset"], material["order"])
