"""MinusFace: the frequency channels of each image in a random order (Mi et al. 2024) [R].

The published scheme first subtracts what a trained network regenerates of the channels. This file holds the linear part
alone: the network is missing, so nothing is subtracted and the low frequencies stay in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unveil.models.core import keystream
from unveil.models.core.frequency_channels import CHANNELS, from_channels, from_planes, to_channels, to_planes
from unveil.models.core.images import Images, check_images
from unveil.models.core.structure import LinearMap
from unveil.models.schemes.base import NoSettings, Scheme
from unveil.models.schemes.key_json import check_fields, parse_permutation

_ALL_CHANNELS = 3 * CHANNELS
_CHUNK = 8  # images, whose channels take 7 MB each at 96x96 pixels


@dataclass(frozen=True)
class MinusFaceKey:
    """order: int64 [192], of the channels of Y, Cb and Cr together: channel i of the result is channel order[i]."""

    order: npt.NDArray[np.int64]


class MinusFace(Scheme[NoSettings, MinusFaceKey]):
    """The 192 frequency channels of each image are put in an order of its own and transformed back to an image.

    The network whose output the published scheme subtracts from the channels first is missing here. The channels are
    those of the 8x8 DCT of the image enlarged eightfold. The result is clipped and rounded to 8 bits here; the
    published implementation keeps real numbers.
    """

    name = "minusface"
    title = "MinusFace"
    source = "Mi et al. 2024 [R]"
    missing_part = "the network whose regeneration of the image is subtracted from the channels"
    key_per_image = True

    @property
    def structure(self) -> LinearMap:
        return LinearMap()

    def key_space_bits(self, height: int, width: int) -> float:  # noqa: ARG002 - the same for all sizes
        return math.lgamma(_ALL_CHANNELS + 1) / math.log(2)

    def derive(self, seed: bytes, height: int, width: int) -> MinusFaceKey:  # noqa: ARG002 - fits every size
        return MinusFaceKey(keystream.permutation(seed, "minusface", _ALL_CHANNELS))

    def encrypt(self, images: Images, key: MinusFaceKey) -> Images:
        check_images(images)
        out = np.empty_like(images)
        for first in range(0, len(images), _CHUNK):
            chunk = images[first : first + _CHUNK]
            channels = to_channels(to_planes(chunk), range(CHANNELS))
            flat = channels.reshape(len(chunk), _ALL_CHANNELS, *chunk.shape[1:3])
            out[first : first + _CHUNK] = from_planes(from_channels(flat[:, key.order].reshape(channels.shape)))
        return out

    def key_to_json(self, key: MinusFaceKey) -> dict[str, Any]:
        return {"order": key.order.tolist()}

    def key_from_json(self, material: Mapping[str, Any]) -> MinusFaceKey:
        """order: a permutation of 0..191."""
        check_fields(material, {"order"})
        return MinusFaceKey(parse_permutation(material, "order", _ALL_CHANNELS))
