"""The attacker view: the images of one cell and the part of them that each threat model allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from unveil.models.attacks.base import Attack, AttackInput, Pairs
from unveil.models.core.images import Images
from unveil.models.core.run_context import RunContext
from unveil.models.core.threat_models import Capability
from unveil.models.evaluation.owner_model import train_owner_model
from unveil.models.schemes.base import Scheme

Labels = npt.NDArray[np.int64]
Array = TypeVar("Array", Images, Labels)
# Images and the number of the first -> what the attack takes of them: 8-bit views or ciphertexts.
ProtectImages = Callable[[Images, int], Any]
_NO_CONTEXT = RunContext()


@dataclass(frozen=True)
class ImageSplit:
    """The plain images of a cell by owner, each uint8 [N, H, W, 3]."""

    targets: Images  # the originals of the attacked ciphertexts
    owner_images: Images  # the same owner's other images, the source of observed ciphertexts and pairs
    public: Images  # the attacker's own images
    owner_labels: Labels | None = None  # the class of each of the owner's images


def split_images(
    attack: Attack[Any], targets: Images, train: Images, public: Images | None = None, labels: Labels | None = None
) -> ImageSplit:
    """Divide the images between owner and attacker.

    An attack that needs public images gets `public`, or every second training image if `public` is None. labels: of
    `train`.
    """
    if public is not None:
        return ImageSplit(targets, train, public, labels)
    if Capability.PUBLIC_IMAGES in attack.threat_model:
        # The paper's T1 and T2: equal halves without a common image.
        return ImageSplit(targets, train[0::2], train[1::2], None if labels is None else labels[0::2])
    return ImageSplit(targets, train, train[:0], labels)


def protect_function(
    scheme: Scheme[Any, Any],
    attack: Attack[Any],
    secret: bytes,
    device: str = "cpu",
    on_batch: Callable[[], None] = lambda: None,
) -> ProtectImages:
    """Protects images under `secret`, in the form that the attack takes."""
    encrypt = scheme.encrypt_with_secret if attack.takes == "ciphertext" else scheme.protect
    return lambda images, first: encrypt(images, secret, first, device, on_batch)


def inverted(scheme: Scheme[Any, Any] | None, attack: Attack[Any]) -> ProtectImages:
    """Inverts images, in place of encryption."""
    if attack.takes == "view" or scheme is None:
        return lambda images, _: 255 - images
    return lambda images, _: scheme.from_view(255 - images)


def noise(
    scheme: Scheme[Any, Any] | None, attack: Attack[Any], rng: np.random.Generator, targets: Images
) -> ProtectImages:
    """Returns noise, whatever the images; `targets`, which are noise, as they are if the attack takes 8-bit views."""
    if attack.takes == "view" or scheme is None:
        return lambda images, _: targets if images is targets else image_noise(rng, images.shape)
    form = scheme.ciphertext
    whole = np.issubdtype(form.dtype, np.integer)

    def draw(images: Images, _: int) -> Any:
        shape = (len(images), *form.shape_for(*images.shape[1:3]))
        if whole:
            return rng.integers(int(form.low), int(form.high), shape, form.dtype, endpoint=True)
        values = rng.random(shape, np.float32)
        values *= form.high - form.low  # in place: encodings of many images take gigabytes
        values += form.low
        return values.astype(form.dtype, copy=False)

    return draw


def image_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Images:
    # A bytearray: torch warns about read-only arrays.
    return np.frombuffer(bytearray(rng.bytes(int(np.prod(shape)))), np.uint8).reshape(shape)


def build_attack_input(
    scheme: Scheme[Any, Any] | None,
    attack: Attack[Any],
    image_split: ImageSplit,
    protect: ProtectImages,
    key_index: int = 0,
    context: RunContext = _NO_CONTEXT,
) -> AttackInput:
    """Build the input that the attack's threat model allows: never the key, never the originals of the targets.

    The oracle is a closure over `protect` and therefore over the key. It hides the key by convention: code that
    inspects the closure can read it.

    key_index: the number of the attacked key. Each key is observed on other images as far as these suffice, so that
    several keys are several independent trials also of an attack whose success depends on the observed images.
    context: of the training of the owner's classifier, for an attack with the capability `model`.
    Raises AttackFailed if this classifier cannot be trained.
    """
    count, labels = attack.required_ciphertexts(), image_split.owner_labels
    plain = _select_observed(image_split.owner_images, count, key_index)
    protected = protect(image_split.targets, 0)
    observed = protect(plain, len(image_split.targets)) if len(plain) else protected[:0]
    takes_views = attack.takes == "view" or scheme is None
    threat_model, model = attack.threat_model, None
    if Capability.MODEL in threat_model:
        owned = protect(image_split.owner_images, len(image_split.targets))
        views = owned if takes_views or scheme is None else scheme.view(owned, image_split.owner_images.shape)
        model = train_owner_model(scheme, views, labels, context)
    return AttackInput(
        scheme=scheme,
        targets=protected,
        observed=observed,
        public=image_split.public if Capability.PUBLIC_IMAGES in threat_model else None,
        pairs=Pairs(plain, observed) if Capability.PAIRS in threat_model else None,
        oracle=(lambda images: protect(images, 0)) if Capability.ORACLE in threat_model else None,
        labels=_select_observed(labels, count, key_index)
        if labels is not None and Capability.LABELS in threat_model
        else None,
        model=model,
        target_views=None if takes_views or scheme is None else scheme.view(protected, image_split.targets.shape),
    )


def _select_observed(of_owner: Array, count: int | None, key_index: int) -> Array:
    if count is None or count >= len(of_owner):
        return of_owner
    return of_owner.take(range(key_index * count, (key_index + 1) * count), axis=0, mode="wrap")
