"""The base class of schemes. A new scheme is one file beside this one that imports torch inside functions only."""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

import numpy as np

from unveil.models.core import keystream
from unveil.models.core.images import Images, check_images, quantise
from unveil.models.core.settings_schema import ParameterError
from unveil.models.core.structure import CiphertextFormat, Structure

if TYPE_CHECKING:
    from unveil.models.core.run_context import RunContext
    from unveil.models.data.image_dataset import ImageDataset
    from unveil.models.schemes.pair_solving import SolvedKey
    from unveil.models.training.classifier import Classifier

S = TypeVar("S")
K = TypeVar("K")

_SEED_PREFIX, _EXPLICIT_PREFIX = b"s", b"m"


class SizeMismatch(ValueError):
    """An explicit key fits images of another size."""


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """The paper's results for a scheme: mean SSIM (Table 1) and robustness (Table 2) by attack name [P]."""

    ssim: Mapping[str, float]
    robust: Mapping[str, bool]
    training: bool = True
    testing: bool = True
    classification: Literal["High", "Low"] = "High"
    cost: Literal["High", "Low"] = "Low"


@dataclasses.dataclass(frozen=True)
class TrainedKey:
    """The result of `Scheme.train`.

    provenance: the record of the training as JSON values: data, images, networks, epochs, losses, accuracies, seconds,
    device, versions and notes.
    """

    secret: bytes
    provenance: dict[str, Any]


def new_secret() -> bytes:
    """A new secret: 256 random bits of the operating system, expanded by `unveil.models.core.keystream`."""
    return seed_secret(keystream.new_secret())


def seed_secret(seed: bytes) -> bytes:
    """The stored form of a 32-byte seed."""
    return _SEED_PREFIX + seed


@dataclasses.dataclass(frozen=True)
class NoSettings:
    """Of a scheme or an attack without settings."""


class Scheme(ABC, Generic[S, K]):
    """A learnable-encryption scheme with its settings.

    A *secret* is the stored form: bytes that hold a 32-byte seed, explicit key material or the weights of a trained
    network. A *key* is the form that the cipher uses: the arrays to which a secret expands for one image size, or the
    network.
    """

    name: ClassVar[str]
    title: ClassVar[str]  # the name if a class has none
    source: ClassVar[str] = ""
    Settings: ClassVar[type] = NoSettings
    api_version: ClassVar[int] = 1
    trains: ClassVar[bool] = False  # whether the secret is the weights of a trained network
    # Why protected images serve only the classifier of the key, so that no other model can be trained on them.
    bound_to_classifier: ClassVar[str | None] = None
    # A trained part of the published scheme that this one lacks: every result names it, and the board has no row.
    missing_part: ClassVar[str | None] = None
    natural_output: ClassVar[bool] = False  # whether protected images are meant to look like natural images
    paper_name: ClassVar[str | None] = None  # the row in the paper's tables
    paper_position: ClassVar[int] = 0  # among the rows of the paper's tables
    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # default settings of each profile

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "name" in vars(cls) and "title" not in vars(cls):
            cls.title = cls.name

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @property
    def invertible(self) -> bool:
        """Whether `decrypt` is exact; by default true of every class that defines it."""
        return type(self).decrypt is not Scheme.decrypt

    @property
    def key_per_image(self) -> bool:
        """Whether every image has a separate key."""
        return False

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of this number of pixels."""
        return 1

    @property
    def structure(self) -> Structure | None:
        """What the scheme does to an image, for attacks that exploit it; None: nothing that has a name."""
        return None

    @property
    def ciphertext(self) -> CiphertextFormat:
        """What `encrypt` returns; by default an 8-bit image of the input's shape."""
        return CiphertextFormat()

    @property
    def paper(self) -> PaperRow | None:
        """The paper's results for these settings; None if it has none."""
        return None

    def key_space_bits(self, height: int, width: int) -> float | None:  # noqa: ARG002
        """log2 of the number of keys for one image of this size; None if it is unknown or not countable (networks)."""
        return None

    @abstractmethod
    def derive(self, seed: bytes, height: int, width: int) -> K:
        """Expand a 32-byte seed to the key for images of this size."""

    @abstractmethod
    def encrypt(self, images: Images, key: K) -> Any:
        """Protect uint8 [N, H, W, 3], sides multiples of `size_multiple`, under one key -> N ciphertexts."""

    def view(self, ciphertexts: Any, shape: tuple[int, ...]) -> Images:
        """The 8-bit images that a client receives, that most attacks see, and that the attack `none` is scored on.

        By default the range of the ciphertext, mapped to 0..255. A scheme whose ciphertexts have another shape than
        the images, uint8 `shape`, defines its own view.
        """
        form = self.ciphertext
        if form == CiphertextFormat():
            return ciphertexts
        if ciphertexts.shape != shape:
            raise ValueError(f"ciphertexts of {self.name} have the shape {list(ciphertexts.shape)} and need a `view`")
        return quantise((ciphertexts.astype(np.float64) - form.low) * (255 / (form.high - form.low)))

    def from_view(self, images: Images) -> Any:
        """Ciphertexts whose 8-bit view is `images`: the controls of attacks that take ciphertexts consist of them.

        By default 0..255, mapped to the range of the ciphertext. Raises ValueError for ciphertexts of another shape
        than the images: such a scheme defines its own.
        """
        form = self.ciphertext
        if form == CiphertextFormat():
            return images
        if form.shape is not None:
            raise ValueError(f"{self.name} needs a `from_view`: its ciphertexts have another shape than images")
        values = form.low + images.astype(np.float64) * ((form.high - form.low) / 255)
        return (np.rint(values) if np.issubdtype(form.dtype, np.integer) else values).astype(form.dtype)

    @property
    def has_image_ciphertext(self) -> bool:
        """Whether the 8-bit view stands for the ciphertext, so that `/encrypt` returns it to a client."""
        return self.ciphertext.shape is None or self.invertible

    def encrypt_to_images(self, images: Images, key: K) -> Images:
        """The 8-bit view of the ciphertexts of `images`, of the same shape."""
        return self.view(self.encrypt(images, key), images.shape)

    def decrypt(self, images: Images, key: K) -> Images:  # noqa: ARG002
        """The exact inverse of `encrypt_to_images`. Raises ValueError if the scheme has none."""
        raise ValueError(f"{self.name} cannot decrypt: it has no exact inverse")

    @property
    def has_explicit_keys(self) -> bool:
        """Whether keys can be given and exported as JSON."""
        return type(self).key_to_json is not Scheme.key_to_json

    def key_to_json(self, key: K) -> dict[str, Any]:  # noqa: ARG002
        """The key as JSON values, in the form that `key_from_json` reads."""
        raise ValueError(f"keys of {self.name} have no JSON form")

    def key_from_json(self, material: Mapping[str, Any]) -> K:  # noqa: ARG002
        """A key from explicit key material. Raises ParameterError with a pointer to the field."""
        raise ParameterError([("", f"keys of {self.name} cannot be given as key material; leave it out to draw a key")])

    def key_size(self, key: K) -> tuple[int, int] | None:  # noqa: ARG002 - most keys fit every size
        """(height, width) of the only image size that the key fits; None: every size."""
        return None

    def key_agreement(self, key: K, true_key: K) -> dict[str, float]:
        """The share of equal entries in 0..1 for each part of two keys, such as inversion bits and positions."""
        parts = dataclasses.fields(key)  # type: ignore[arg-type]
        return {part.name: float(np.mean(getattr(key, part.name) == getattr(true_key, part.name))) for part in parts}

    def key_from_map(self, found: Any) -> K | None:  # noqa: ARG002
        """The key in the form of the scheme from the map that an attack recovered; None: the map alone is compared.

        found: by the declared structure, a PixelwiseKey of a PixelMap, a NibblePermutation of a BlockMap of nibbles, a
        ValueInverse of another BlockMap, a BlockInverse of a BlockScramble, a ValueSubstitution of a BlockSubstitution.
        """
        return None

    def rule_violations(self, found: Any) -> int:  # noqa: ARG002
        """In how many entries a recovered map breaks a rule that all keys of the scheme obey, if there is one."""
        return 0

    @property
    def brings_pair_solver(self) -> bool:
        """Whether the scheme solves its own keys from pairs."""
        return type(self).solve_pairs is not Scheme.solve_pairs

    def solve_pairs(self, plain: Images, protected: Images) -> SolvedKey[K]:  # noqa: ARG002
        """A key that is consistent with all pairs, for a structure that no attack solves. Raises ValueError."""
        raise TypeError(f"{self.name} brings no solver")

    def key_to_secret(self, key: K) -> bytes:
        """The stored form of an explicit key."""
        return _EXPLICIT_PREFIX + json.dumps(self.key_to_json(key), sort_keys=True).encode()

    def key(self, secret: bytes, height: int, width: int) -> K:
        """The key of a secret for images of this size. Raises SizeMismatch; ValueError for another scheme's secret."""
        kind, body = secret[:1], secret[1:]
        if kind == _SEED_PREFIX:
            return self.derive(body, height, width)
        if kind != _EXPLICIT_PREFIX:
            raise ValueError("not a secret of this scheme")
        key = self.key_from_json(json.loads(body))
        size = self.key_size(key)
        if size is not None and size != (height, width):
            raise SizeMismatch(
                f"this key consists of explicit maps for images of {size[1]}x{size[0]} (width x height) and does not "
                f"fit {width}x{height}; resize the image or use a key without explicit maps"
            )
        return key

    @classmethod
    def missing_part_note(cls) -> str | None:
        """The sentence of every result and report on the part that is missing; None if the scheme is complete."""
        if cls.missing_part is None:
            return None
        return (
            f"the trained part of {cls.title} is missing: {cls.missing_part}; figures are those of the untrained "
            "part alone, which has no row on the board"
        )

    def untrainable_reason(self, count: int, height: int, width: int, classes: int) -> str | None:  # noqa: ARG002
        """Why no key can be trained on `count` images of this size and number of classes; None if one can."""
        return None

    def training_core_seconds(self, images: int, height: int, width: int) -> float:  # noqa: ARG002
        """Estimated core seconds to train a key on this number of images of this size; 0 if keys are drawn."""
        return 0.0

    def train(self, data: ImageDataset, context: RunContext) -> TrainedKey:  # noqa: ARG002
        """Train a new secret on `data.train` and its labels, for schemes with `trains`; `data.test` only measures it.

        Resumes from `context.checkpoints`. Raises AttackFailed (insufficient images or labels, a diverging loss) and
        what `context.report` raises.
        """
        raise TypeError(f"keys of {self.name} are drawn at random, not trained")

    def bundled_classifier(self, secret: bytes, data: ImageDataset) -> Classifier:  # noqa: ARG002
        """The classifier of a key, on the CPU, for schemes with `bound_to_classifier`.

        Raises AttackFailed if its classes differ from those of `data`.
        """
        raise TypeError(f"{self.name} is not bound to a classifier")

    def protect(
        self,
        images: Images,
        secret: bytes,
        first: int = 0,
        device: str = "cpu",  # noqa: ARG002
        on_batch: Callable[[], None] = lambda: None,
    ) -> Images:
        """The 8-bit views of images uint8 [N, H, W, 3] under one key, or under one derived key for each image.

        first: the number of the first image, from which its key is derived. device: of a network; ciphers run on the
        CPU. on_batch: called before each part of the work; may raise Cancelled. Raises SizeMismatch, and ValueError for
        images that the scheme cannot take.
        """
        return self._apply_keys(self.encrypt_to_images, images, secret, first, on_batch)

    def encrypt_with_secret(
        self,
        images: Images,
        secret: bytes,
        first: int = 0,
        device: str = "cpu",
        on_batch: Callable[[], None] = lambda: None,
    ) -> Any:
        """As `protect`, but the ciphertexts themselves: for attacks that take these."""
        if self.ciphertext == CiphertextFormat():
            return self.protect(images, secret, first, device, on_batch)
        return self._apply_keys(self.encrypt, images, secret, first, on_batch)

    def _apply_keys(
        self,
        encrypt: Callable[[Images, K], Any],
        images: Images,
        secret: bytes,
        first: int,
        on_batch: Callable[[], None],
    ) -> Any:
        check_images(images)
        on_batch()
        height, width = images.shape[1:3]
        if not self.key_per_image:
            return encrypt(images, self.key(secret, height, width))
        encrypted = []
        for i in range(max(1, len(images))):  # of no image, too, the ciphertexts have a shape and a type
            on_batch()
            encrypted.append(encrypt(images[i : i + 1], self.key(image_secret(secret, first + i), height, width)))
        return np.concatenate(encrypted)


def image_secret(secret: bytes, number: int) -> bytes:
    """The secret of image `number` under a scheme with `key_per_image`. Raises ValueError for explicit material."""
    if secret[:1] != _SEED_PREFIX:
        raise ValueError("explicit key material fits one image; keys for several images need a seed")
    return seed_secret(keystream.derive_key(secret[1:], f"image/{number}"))
