"""InstaHide: weighted sums of private and public images with random signs (Huang, Song, Li, Arora 2020) [R].

The public images here are windows of one large synthetic image instead of photographs of a public dataset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat

import numpy as np
import numpy.typing as npt

from unveil.models.core import keystream
from unveil.models.core.images import Images, check_images, quantise
from unveil.models.core.settings_schema import setting
from unveil.models.core.structure import CiphertextFormat, Mixture
from unveil.models.data.dead_leaves import dead_leaves
from unveil.models.schemes.base import Scheme, image_secret

Floats = npt.NDArray[np.float32]

# Of the red, green and blue of public photographs, on the scale 0..1.
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
RANGE = 2.65  # of a normalised value, in either direction: (1 - 0.406) / 0.225 is 2.64
_MAX_COEFFICIENT = 0.65
_MIN_PRIVATE_SHARE = 0.3  # of the private images in an encoding
_PUBLIC_TILES = 8  # a side of the public image, of 96 pixels each


@dataclass(frozen=True)
class InstaHideSettings:
    private: int = setting(2, "Private images in an encoding, the encrypted one included", minimum=1, maximum=4)
    public: int = setting(2, "Public images in an encoding", minimum=0, maximum=8)
    encodings: int = setting(50, "Encodings of each image: one for each epoch of a training", minimum=1, maximum=200)

    def __post_init__(self) -> None:
        if self.private + self.public < 2:
            raise ValueError("nothing is mixed: an encoding needs at least two images")


@dataclass(frozen=True)
class InstaHideKey:
    """The randomness of the T encodings of one image that mixes P private and Q public ones.

    coefficients: float32 [T, P + Q], each row positive with sum 1; the first is of the image itself, then come the
    other private images. partners: float64 [T, P - 1] in 0..1, the places of the other private images in the call.
    windows: float64 [T, Q, 2] in 0..1, the places of the public images. signs: float32 [T, H, W, 3], -1 or 1.
    """

    coefficients: Floats
    partners: npt.NDArray[np.float64]
    windows: npt.NDArray[np.float64]
    signs: Floats


class InstaHide(Scheme[InstaHideSettings, InstaHideKey]):
    """An encoding is a weighted sum of normalised images, and every value of it has a random sign.

    Each image has several encodings, each mixed with other images of the same call, drawn anew, and with public images;
    an image that is encrypted alone is mixed with public images only. The 8-bit view is the absolute value of the first
    encoding: absolute values are what the published challenge gives, for the signs say nothing. Coefficients are real
    numbers, so keys cannot be counted.
    """

    name = "instahide"
    title = "InstaHide"
    source = "Huang, Song, Li, Arora 2020 [R]"
    Settings = InstaHideSettings
    key_per_image = True

    @property
    def structure(self) -> Mixture:
        return Mixture(self.settings.private, self.settings.public, MEAN, DEVIATION)

    @property
    def ciphertext(self) -> CiphertextFormat:
        return CiphertextFormat("float32", -RANGE, RANGE, (self.settings.encodings, "H", "W", 3))

    def derive(self, seed: bytes, height: int, width: int) -> InstaHideKey:
        count, settings = self.settings.encodings, self.settings
        signs = keystream.bits(seed, f"instahide/signs/{height}x{width}", count * height * width * 3)
        return InstaHideKey(
            _draw_coefficients(seed, count, settings.private, settings.public),
            _uniform(seed, "instahide/partners", count * (settings.private - 1)).reshape(count, -1),
            _uniform(seed, "instahide/windows", count * settings.public * 2).reshape(count, settings.public, 2),
            np.where(signs, np.float32(1), np.float32(-1)).reshape(count, height, width, 3),
        )

    def encrypt(self, images: Images, key: InstaHideKey) -> Floats:
        return self._encode(images, repeat(key), self.settings.encodings)

    def encrypt_to_images(self, images: Images, key: InstaHideKey) -> Images:
        return self.view(self._encode(images, repeat(key), 1), images.shape)

    def protect(
        self,
        images: Images,
        secret: bytes,
        first: int = 0,
        device: str = "cpu",  # noqa: ARG002
        on_batch: Callable[[], None] = lambda: None,
    ) -> Images:
        return self.view(self._encode(images, self._keys(images, secret, first, on_batch), 1), images.shape)

    def encrypt_with_secret(
        self,
        images: Images,
        secret: bytes,
        first: int = 0,
        device: str = "cpu",  # noqa: ARG002
        on_batch: Callable[[], None] = lambda: None,
    ) -> Floats:
        return self._encode(images, self._keys(images, secret, first, on_batch), self.settings.encodings)

    def view(self, ciphertexts: Floats, shape: tuple[int, ...]) -> Images:  # noqa: ARG002
        return quantise(np.abs(ciphertexts[:, 0]) * (255 / RANGE))

    def from_view(self, images: Images) -> Floats:
        values = images.astype(np.float32) * np.float32(RANGE / 255)
        return np.repeat(values[:, None], self.settings.encodings, axis=1)

    def _keys(self, images: Images, secret: bytes, first: int, on_batch: Callable[[], None]) -> Iterator[InstaHideKey]:
        check_images(images)
        for i in range(len(images)):
            on_batch()
            yield self.key(image_secret(secret, first + i), *images.shape[1:3])

    def _encode(self, images: Images, keys: Iterable[InstaHideKey], encodings: int) -> Floats:
        """The first `encodings` encodings of each image, float32 [N, encodings, H, W, 3]."""
        check_images(images)
        count, height, width, _ = images.shape
        normalised = _normalise(images)
        out = np.zeros((count, encodings, height, width, 3), np.float32)
        for i, key in zip(range(count), keys, strict=False):
            own, *others = range(self.settings.private)
            for t in range(encodings):
                weights, encoding = key.coefficients[t], out[i, t]
                encoding += weights[own] * normalised[i]
                for other in others:
                    # Of the images of the call but this one; of one alone, itself.
                    place = int(key.partners[t, other - 1] * (count - 1)) + 1 if count > 1 else 0
                    encoding += weights[other] * normalised[(i + place) % count]
                for window, weight in zip(key.windows[t], weights[self.settings.private :], strict=True):
                    encoding += weight * _public_window(height, width, window)
                encoding *= key.signs[t]
        return out


def _normalise(images: Images) -> Floats:
    return ((images.astype(np.float32) / 255 - np.array(MEAN)) / np.array(DEVIATION)).astype(np.float32)


@lru_cache(maxsize=2)
def _public_image(height: int, width: int) -> Floats:
    """A large normalised image, square, reduced for small images so that a window holds as much as one of 96 pixels."""
    tiles = dead_leaves(_PUBLIC_TILES**2, seed=0)
    side = tiles.shape[1]
    rows = tiles.reshape(_PUBLIC_TILES, _PUBLIC_TILES, side, side, 3).transpose(0, 2, 1, 3, 4)
    whole = _normalise(rows.reshape(_PUBLIC_TILES * side, _PUBLIC_TILES * side, 3))
    factor = max(1, side // max(height, width, 16))
    size = len(whole) // factor
    whole = whole[: size * factor, : size * factor]
    return whole.reshape(size, factor, size, factor, 3).mean((1, 3))


def _public_window(height: int, width: int, place: npt.NDArray[np.float64]) -> Floats:
    """A window of the public image, which wraps around. place: of its upper left corner, (y, x) in 0..1."""
    public = _public_image(height, width)
    top, left = (int(p * len(public)) for p in place)
    rows = np.arange(top, top + height) % len(public)
    columns = np.arange(left, left + width) % len(public)
    return public[rows[:, None], columns]


def _draw_coefficients(seed: bytes, count: int, private: int, public: int) -> Floats:
    """Normalised absolute values of normal numbers; rows beyond the published limits are drawn again."""
    accepted: list[Floats] = []
    for attempt in range(100):
        normal = np.abs(_normal(seed, f"instahide/coefficients/{attempt}", 4 * count * (private + public)))
        rows = normal.reshape(4 * count, private + public)
        rows /= rows.sum(axis=1, keepdims=True)
        fits = (rows.max(axis=1) <= _MAX_COEFFICIENT) & (rows[:, :private].sum(axis=1) >= _MIN_PRIVATE_SHARE)
        accepted.extend(rows[fits].astype(np.float32))
        if len(accepted) >= count:
            return np.stack(accepted[:count])
    raise AssertionError("no coefficients fit: the stream is broken")


def _uniform(seed: bytes, label: str, count: int) -> npt.NDArray[np.float64]:
    """In 0..1, both excluded, 53 bits each."""
    words = np.frombuffer(keystream.keystream_bytes(seed, label, 8 * count), ">u8")
    return ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def _normal(seed: bytes, label: str, count: int) -> npt.NDArray[np.float64]:
    uniform = _uniform(seed, label, 2 * count)
    return np.sqrt(-2 * np.log(uniform[:count])) * np.cos(2 * np.pi * uniform[count:])
