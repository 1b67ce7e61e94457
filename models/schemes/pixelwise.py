"""Pixel-wise encryption (Sirichotedumrong et al. 2019; paper section 2.3, equations 2 and 3) [P]."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from unveil.models.core import keystream
from unveil.models.core.images import Images, check_images
from unveil.models.core.settings_schema import setting
from unveil.models.core.structure import PixelMap
from unveil.models.schemes.base import PaperRow, Scheme, image_secret
from unveil.models.schemes.key_json import decode_map, encode_map, parse_size

# Order codes 0..5: the permutations of (0, 1, 2) in lexicographic order; output channel c is input channel order[c].
ORDERS = np.array(list(itertools.permutations(range(3))), np.int8)
INVERSE_ORDERS = np.argsort(ORDERS, axis=1).astype(np.int8)

_PAPER = {
    "same": PaperRow({"fr": 0.4646, "itn": 0.1715, "gan": 0.2688}, {"fr": False, "itn": False, "gan": False}),
    "different": PaperRow({"fr": 0.4628, "itn": 0.0425, "gan": 0.1527}, {"fr": False, "itn": True, "gan": False}),
}


@dataclass(frozen=True)
class PixelwiseSettings:
    key_mode: Literal["same", "different"] = setting(
        "same", "same: one key for all images of a size; different: a separate key for each image"
    )


@dataclass(frozen=True)
class PixelwiseKey:
    """reversed: bool [H, W, 3], whether an input channel is inverted; orders: uint8 [H, W], order codes in 0..5."""

    reversed: npt.NDArray[np.bool_]
    orders: npt.NDArray[np.uint8]

    def decrypt(self, images: Images) -> Images:
        """Undo this map on uint8 [N, H, W, 3]."""
        return _transform(images, self, inverse=True)


class Pixelwise(Scheme[PixelwiseSettings, PixelwiseKey]):
    """Each channel value p is inverted to 255 - p with probability 1/2; the channels of each pixel are permuted."""

    name = "pixelwise"
    title = "Pixel-wise encryption"
    source = "Sirichotedumrong, Maekawa, Kinoshita, Kiya 2019; paper section 2.3"
    Settings = PixelwiseSettings
    paper_name = "Pixel-wise"
    paper_position = 1

    @property
    def key_per_image(self) -> bool:
        return self.settings.key_mode == "different"

    @property
    def structure(self) -> PixelMap:
        return PixelMap()

    @property
    def paper(self) -> PaperRow:
        return _PAPER[self.settings.key_mode]

    def key_space_bits(self, height: int, width: int) -> float:
        """log2(2^(3n) * 6^n) for n = H * W pixels (equation 3)."""
        return height * width * (3 + math.log2(6))

    def derive(self, seed: bytes, height: int, width: int) -> PixelwiseKey:
        signs, orders = np.divmod(_draw_codes(seed, height, width).reshape(height, width), np.uint8(6))
        return PixelwiseKey((signs[..., None] >> np.arange(3, dtype=np.uint8) & 1).astype(np.bool_), orders)

    def protect(
        self,
        images: Images,
        secret: bytes,
        first: int = 0,
        device: str = "cpu",
        on_batch: Callable[[], None] = lambda: None,
    ) -> Images:
        from unveil.models.core import numba_kernels  # imported late: the API imports this module and needs no compiler

        if not self.key_per_image or numba_kernels.apply_pixel_transforms is None:
            return super().protect(images, secret, first, device, on_batch)
        check_images(images)
        count, height, width, _ = images.shape
        out = np.empty(images.shape, np.uint8)
        for i in range(count):  # straight to the kernel, without the two arrays of a key
            transforms = _draw_codes(image_secret(secret, first + i)[1:], height, width, _TRANSFORMS.tobytes())
            _apply_compiled(images[i : i + 1], transforms, out[i : i + 1])
        return out

    def encrypt(self, images: Images, key: PixelwiseKey) -> Images:
        return _transform(images, key, inverse=False)

    def decrypt(self, images: Images, key: PixelwiseKey) -> Images:
        return key.decrypt(images)

    def key_from_map(self, found: PixelwiseKey) -> PixelwiseKey:
        return found

    def key_size(self, key: PixelwiseKey) -> tuple[int, int]:
        return key.orders.shape[0], key.orders.shape[1]

    def key_to_json(self, key: PixelwiseKey) -> dict[str, Any]:
        height, width = key.orders.shape
        return {
            "width": width,
            "height": height,
            "reversed": encode_map(key.reversed),
            "orders": encode_map(key.orders),
        }

    def key_from_json(self, material: Mapping[str, Any]) -> PixelwiseKey:
        height, width = parse_size(material, {"reversed", "orders"})
        flips = decode_map(material, "reversed", height * width * 3, 1)
        orders = decode_map(material, "orders", height * width, 5)
        return PixelwiseKey(flips.astype(np.bool_).reshape(height, width, 3), orders.reshape(height, width))


def _draw_codes(seed: bytes, height: int, width: int, symbols: bytes = bytes(range(48))) -> npt.NDArray[np.uint8]:
    """One of 48 = 8 x 6 codes for each pixel: bit c of code // 6 inverts input channel c, code % 6 is the order."""
    return keystream.uniform_integers(seed, f"pixelwise/{height}x{width}", 48, height * width, symbols)


def _key_codes(key: PixelwiseKey) -> npt.NDArray[np.uint8]:
    red, green, blue = np.moveaxis(key.reversed.view(np.uint8), 2, 0)
    codes: npt.NDArray[np.uint8] = 6 * (red + 2 * green + 4 * blue) + key.orders
    return codes.ravel()


def _transform(images: Images, key: PixelwiseKey, *, inverse: bool) -> Images:
    from unveil.models.core import numba_kernels  # imported late: the API imports this module and needs no compiler

    check_images(images)
    if images.shape[1:] != key.reversed.shape:
        raise ValueError(f"the key fits images of {list(key.reversed.shape)}; got {list(images.shape[1:])}")
    if numba_kernels.apply_pixel_transforms is not None:
        out = np.empty(images.shape, np.uint8)
        _apply_compiled(images, (_INVERSE_TRANSFORMS if inverse else _TRANSFORMS)[_key_codes(key)], out)
        return out
    if inverse:
        return _gather(images, INVERSE_ORDERS[key.orders], key.reversed)
    order = ORDERS[key.orders]
    return _gather(images, order, np.take_along_axis(key.reversed, order.astype(np.intp), axis=2))


def _gather(images: Images, order: npt.NDArray[np.int8], flips: npt.NDArray[np.bool_]) -> Images:
    """Output channel c is channel order[..., c] of the same pixel, inverted if flips[..., c].

    One flat gather is several times faster than take_along_axis with a 64-bit index for every value.
    """
    source = np.arange(order.size, dtype=np.intp) // 3 * 3 + order.ravel()
    gathered = images.reshape(len(images), order.size).take(source, axis=1)
    gathered ^= (flips * np.uint8(255)).ravel()
    return gathered.reshape(images.shape)


def _apply_compiled(images: Images, transforms: npt.NDArray[np.uint8], out: Images) -> None:
    """Apply one map of encoded transforms to all images with the compiled kernel."""
    from unveil.models.core.numba_kernels import apply_pixel_transforms

    shape = (len(images), len(transforms), 3)
    apply_pixel_transforms(np.ascontiguousarray(images).reshape(shape), transforms[None], out.reshape(shape))


def _encode_transform(order: npt.NDArray[np.int8], signs: int) -> int:
    """The encoding that `numba_kernels.apply_pixel_transforms` reads."""
    return int((0, 1, 2)[order[0]] | (8, 0, 4)[order[1]] | signs << 4)


# Indexed by code. The inverse transform inverts the channels after they have moved back.
_TRANSFORMS = np.array([_encode_transform(ORDERS[code % 6], code // 6) for code in range(48)], np.uint8)
_INVERSE_TRANSFORMS = np.array(
    [
        _encode_transform(
            INVERSE_ORDERS[code % 6], sum(1 << c for c in range(3) if code // 6 >> ORDERS[code % 6][c] & 1)
        )
        for code in range(48)
    ],
    np.uint8,
)
