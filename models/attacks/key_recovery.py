"""Key recovery: the key of a whole data set falls out of a handful of its ciphertexts (SCIENCE section 4) [M].

Ciphertexts only, no training: photographs are smooth, and one key serves them all. What photographs look like comes
with the product as small public statistics, never from the images that are scored. The algorithms are in
`models.recovery`; what they reach is in docs/results/key-recovery.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unveil.models.attacks.base import Attack, Material, Outcome
from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images
from unveil.models.core.run_context import Context
from unveil.models.core.settings_schema import param
from unveil.models.core.threat_models import ThreatModel
from unveil.models.schemes.base import Scheme
from unveil.models.schemes.pixelwise import Pixelwise, PixelwiseKey
from unveil.models.schemes.tanaka import Tanaka, TanakaKey

if TYPE_CHECKING:
    from unveil.models.recovery.color_ambiguity import Choice

CURVE = "ssim_by_ciphertexts"
CURVE_TARGETS = 32  # images that a point of the curve is the mean of

Decrypt = Callable[[Images], Images]


@dataclass(frozen=True)
class KeyRecoverySettings:
    ciphertexts: int = param(64, "Ciphertexts under the key that it is computed from", minimum=1, maximum=4096)
    curve: bool = param(
        True, "Also try 1, 2, 4, ... ciphertexts and report the SSIM of each; colours from the images to read"
    )


class KeyRecovery(Attack[KeyRecoverySettings]):
    """Finds the key from ciphertexts alone; what they leave open, public statistics of photographs decide."""

    name = "key-recovery"
    title = "Key recovery"
    source = "Unveil"
    threat_model = ThreatModel.CIPHERTEXT_ONLY
    Settings = KeyRecoverySettings

    def observations(self) -> int:
        return self.settings.ciphertexts

    def refuses(self, scheme: Scheme[Any, Any]) -> str | None:
        if not isinstance(scheme, Pixelwise | Tanaka):
            return "knows the structure of pixel-wise encryption and of Tanaka's scheme only"
        if scheme.key_per_image:
            return "every image has a key of its own: one ciphertext says nothing about the key of the next"
        return None

    def run(self, material: Material, context: Context) -> Outcome:
        seen = np.concatenate([material.observed, material.targets])[: self.settings.ciphertexts]
        fewer = [2**i for i in range(len(seen).bit_length()) if 2**i < len(seen)] if self.settings.curve else []
        sweep = []
        for i, count in enumerate([*fewer, len(seen)]):
            context.report(i / (len(fewer) + 1), f"{count} ciphertexts")
            # The targets are ciphertexts too, and it is their colours that matter.
            to_read = np.concatenate([material.targets, material.observed[:count]])
            decrypt, key, choice = recover(material.scheme, seen[:count], to_read, context.seed)
            reconstructed = decrypt(material.targets if count == len(seen) else material.targets[:CURVE_TARGETS])
            if self.settings.curve:
                sweep.append((CURVE, float(count), reconstructed[:CURVE_TARGETS]))
        sure = f"negative or not and order of the channels chosen with probability {choice.probability:.3f}"
        return Outcome(
            reconstructed=reconstructed,
            key=key,
            numbers={
                "ciphertexts": float(len(seen)),
                "ciphertexts_for_colours": float(choice.pictures),
                "colour_probability": choice.probability,
            },
            sweep=sweep,
            notes=(f"{sure}, on {choice.pictures} of the images to read",),
        )


def recover(
    scheme: Scheme[Any, Any] | None, ciphertexts: Images, to_read: Images, seed: int
) -> tuple[Decrypt, PixelwiseKey | TanakaKey, Choice]:
    """How to decrypt, the key in the scheme's form, and how sure the colours are, which the first of `to_read` settle.

    Raises AttackFailed.
    """
    try:
        if isinstance(scheme, Pixelwise):
            return _pixelwise(scheme, ciphertexts, to_read)
        if isinstance(scheme, Tanaka):
            return _tanaka(scheme, ciphertexts, to_read, seed)
    except ValueError as error:
        raise AttackFailed(str(error)) from error
    raise AttackFailed("key recovery takes ciphertexts of pixel-wise encryption or of Tanaka's scheme")


def _pixelwise(scheme: Pixelwise, ciphertexts: Images, to_read: Images) -> tuple[Decrypt, PixelwiseKey, Choice]:
    from unveil.models.recovery import color_ambiguity, pixelwise

    key = pixelwise.align(ciphertexts)
    choice = color_ambiguity.choose(scheme.decrypt(to_read[: color_ambiguity.MOST], key))
    key = pixelwise.transform(key, choice.order, negative=choice.negative)
    return lambda images: scheme.decrypt(images, key), key, choice


def _tanaka(scheme: Tanaka, ciphertexts: Images, to_read: Images, seed: int) -> tuple[Decrypt, TanakaKey, Choice]:
    from unveil.models.recovery import color_ambiguity, tanaka

    variant = scheme.settings.variant
    streams = tanaka.recover(ciphertexts, seed)
    evidence = tanaka.rule_evidence(streams) if variant == "icce2018" else None
    choice = color_ambiguity.choose(streams.decrypt(to_read[: color_ambiguity.MOST]), evidence)
    streams = streams.transformed(choice.order, negative=choice.negative)
    return streams.decrypt, streams.key(variant), choice
