"""What a protection scheme is. A new scheme is one file beside this one; it imports torch inside functions only."""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

import numpy as np

from unveil.models.core import keystream
from unveil.models.core.images import Images, check_images

if TYPE_CHECKING:
    from unveil.models.core.run_context import RunContext
    from unveil.models.data.image_dataset import ImageDataset
    from unveil.models.training.classifier import Classifier

S = TypeVar("S")
K = TypeVar("K")

_SEED_PREFIX, _EXPLICIT_PREFIX = b"s", b"m"


class SizeMismatch(ValueError):
    """An explicit key was made for images of another size."""


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """What the paper reports of a scheme: mean SSIM (Table 1) and robustness (Table 2) by attack name."""

    ssim: Mapping[str, float]
    robust: Mapping[str, bool]
    training: bool = True
    testing: bool = True
    classification: Literal["High", "Low"] = "High"
    cost: Literal["High", "Low"] = "Low"


@dataclasses.dataclass(frozen=True)
class TrainedKey:
    """What `Scheme.train` brings back.

    provenance: JSON values, for the key's record: data, images, networks that judged it, epochs, losses and accuracies
    reached, seconds, device, versions, notes.
    """

    secret: bytes
    provenance: dict[str, Any]


def new_secret() -> bytes:
    """A fresh stored secret: 256 bits from the operating system, expanded by `unveil.models.core.keystream`."""
    return seed_secret(keystream.new_secret())


def seed_secret(seed: bytes) -> bytes:
    """The stored form of a 32-byte seed."""
    return _SEED_PREFIX + seed


class Scheme(ABC, Generic[S, K]):
    """A way to protect images.

    A *secret* is what the key holder stores (bytes: a 32-byte seed, explicit key material, or the weights of a
    trained network). A *key* is what the cipher uses: the arrays that a secret expands to for one image size, or the
    network.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    Settings: ClassVar[type]
    trains: ClassVar[bool] = False  # the secret is trained network weights
    invertible: ClassVar[bool] = True
    bound_to_classifier: ClassVar[str | None] = (
        None  # why its images serve one finished classifier, and no model can be trained
    )
    paper_name: ClassVar[str | None] = None  # its row in the paper's tables
    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # settings that a profile fills in

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @property
    def key_per_image(self) -> bool:
        """Whether every image has a key of its own."""
        return False

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of this."""
        return 1

    @property
    def paper(self) -> PaperRow | None:
        """The paper's results for these settings, where it has them."""
        return None

    @abstractmethod
    def key_space_bits(self, height: int, width: int) -> float | None:
        """log2 of the number of keys for one image of this size; None where keys are not counted (networks)."""

    @abstractmethod
    def derive(self, seed: bytes, height: int, width: int) -> K:
        """The key that a 32-byte seed expands to for images of this size."""

    @abstractmethod
    def encrypt(self, images: Images, key: K) -> Images:
        """Protect uint8 [N, H, W, 3] (sides multiples of `multiple`) under one key."""

    @abstractmethod
    def decrypt(self, images: Images, key: K) -> Images:
        """Undo `encrypt`, bit for bit."""

    @abstractmethod
    def key_to_json(self, key: K) -> dict[str, Any]:
        """The key as JSON values, the form `load` takes."""

    @abstractmethod
    def key_from_json(self, material: Mapping[str, Any]) -> K:
        """A key from explicit material. Raises unveil.models.core.settings_schema.ParameterError naming the field."""

    def key_size(self, key: K) -> tuple[int, int] | None:  # noqa: ARG002 - most keys fit every size
        """(height, width) of the only image size a key fits; None: every size."""
        return None

    def key_agreement(self, key: K, true_key: K) -> dict[str, float]:
        """Fraction of equal entries of each part of two keys (reversal bits, positions)."""
        parts = dataclasses.fields(key)  # type: ignore[arg-type]
        return {part.name: float(np.mean(getattr(key, part.name) == getattr(true_key, part.name))) for part in parts}

    def key_to_secret(self, key: K) -> bytes:
        """The stored form of an explicit key."""
        return _EXPLICIT_PREFIX + json.dumps(self.key_to_json(key), sort_keys=True).encode()

    def key(self, secret: bytes, height: int, width: int) -> K:
        """The key of a stored secret for images of this size. Raises SizeMismatch."""
        kind, body = secret[:1], secret[1:]
        if kind == _SEED_PREFIX:
            return self.derive(body, height, width)
        if kind != _EXPLICIT_PREFIX:
            raise ValueError("not a secret of this scheme")
        key = self.key_from_json(json.loads(body))
        size = self.key_size(key)
        if size is not None and size != (height, width):
            raise SizeMismatch(
                f"this key was given as explicit maps for images of {size[1]}x{size[0]} (width x height) and cannot "
                f"serve {width}x{height}; resize the image or use a key without explicit maps"
            )
        return key

    def untrainable_reason(self, count: int, height: int, width: int, classes: int) -> str | None:  # noqa: ARG002
        """Why no key can be trained on so many images of this size and of so many classes; None when one can."""
        return None

    def train(self, data: ImageDataset, context: RunContext) -> TrainedKey:  # noqa: ARG002
        """A new secret, learned from `data.train` (and its labels); where `trains` only. `data.test` is not looked at.

        Goes on from context.checkpoints. Raises AttackFailed (images or labels that do not suffice, a loss that is no
        number) and what context.report raises.
        """
        raise TypeError(f"keys of {self.name} are drawn, not trained")

    def bundled_classifier(self, secret: bytes, data: ImageDataset) -> Classifier:  # noqa: ARG002
        """The finished classifier that images under a key serve, on the CPU; where `only_for` only.

        Raises AttackFailed where it knows other classes than those of `data`.
        """
        raise TypeError(f"images of {self.name} serve every model")

    def protect(self, images: Images, secret: bytes, first: int = 0, device: str = "cpu") -> Images:  # noqa: ARG002
        """Protect a data set, image i of it being number first + i: one key for all, or one derived for each.

        device: where a network runs; ciphers run on the CPU.
        """
        check_images(images)
        height, width = images.shape[1:3]
        if not self.key_per_image:
            return self.encrypt(images, self.key(secret, height, width))
        out = np.empty_like(images)
        for i in range(len(images)):
            out[i] = self.encrypt(images[i : i + 1], self.key(image_secret(secret, first + i), height, width))[0]
        return out


def image_secret(secret: bytes, number: int) -> bytes:
    """The secret of image `number` under a scheme that draws one key an image."""
    if secret[:1] != _SEED_PREFIX:
        raise ValueError("explicit key material serves one image; keys for many need a seed")
    return seed_secret(keystream.derive_key(secret[1:], f"image/{number}"))
