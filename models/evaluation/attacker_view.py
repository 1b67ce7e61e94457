"""The images of one cell, and what of them an attacker gets to see under each threat model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from unveil.models.attacks.base import Attack, AttackInput, Pairs
from unveil.models.core.images import Images
from unveil.models.core.threat_models import ThreatModel
from unveil.models.evaluation.oracle import Oracle
from unveil.models.schemes.base import Scheme

ProtectImages = Callable[[Images, int], Images]  # images, number of the first one -> their ciphertexts


@dataclass(frozen=True)
class ImageSplit:
    """All plain, uint8 [N, H, W, 3]."""

    targets: Images  # behind the ciphertexts that are attacked
    owner_images: Images  # of the same owner: observed ciphertexts and pairs come from it
    public: Images  # the attacker's own


def split_images(attack: Attack[Any], targets: Images, train: Images, public: Images | None = None) -> ImageSplit:
    """Who owns what. Without `public` images, an attacker who needs some owns every second training image."""
    if public is not None:
        return ImageSplit(targets, train, public)
    if attack.threat_model is ThreatModel.PUBLIC_IMAGES:
        return ImageSplit(
            targets, train[0::2], train[1::2]
        )  # the paper's T1 and T2: equal halves without a common image
    return ImageSplit(targets, train, train[:0])


def build_attack_input(
    scheme: Scheme[Any, Any] | None,
    attack: Attack[Any],
    image_split: ImageSplit,
    protect: ProtectImages,
    key_index: int = 0,
) -> AttackInput:
    """Only what the attack's threat model allows: no key, and no plain image behind the targets.

    number: of the key among several. Each is watched on other images, as far as they go: several keys on the same
    pictures would be one trial of an attack that lives by its pictures.
    """
    plain = _select_observed(image_split.owner_images, attack.required_ciphertexts(), key_index)
    protected = protect(image_split.targets, 0)
    observed = protect(plain, len(image_split.targets)) if len(plain) else protected[:0]
    threat_model = attack.threat_model
    return AttackInput(
        scheme=scheme,
        targets=protected,
        observed=observed,
        public=image_split.public if threat_model is ThreatModel.PUBLIC_IMAGES else None,
        pairs=Pairs(plain, observed) if threat_model is ThreatModel.KNOWN_PLAINTEXT else None,
        oracle=Oracle(lambda images: protect(images, 0)) if threat_model is ThreatModel.CHOSEN_PLAINTEXT else None,
    )


def _select_observed(owner_images: Images, count: int | None, key_index: int) -> Images:
    if count is None or count >= len(owner_images):
        return owner_images
    return owner_images.take(range(key_index * count, (key_index + 1) * count), axis=0, mode="wrap")
