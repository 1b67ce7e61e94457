"""Key recovery: the key of a dataset from a few of its ciphertexts [M].

The attack needs ciphertexts only and no training: natural images are smooth, and one key serves all of them. The
bundled public statistics describe natural images; they contain nothing of the scored images. The algorithms are in
`unveil.models.recovery`, figures in docs/results.md#key-recovery-by-number-of-ciphertexts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images
from unveil.models.core.run_context import RunContext
from unveil.models.core.settings_schema import setting
from unveil.models.core.threat_models import ThreatModel
from unveil.models.schemes.base import Scheme
from unveil.models.schemes.pixelwise import Pixelwise, PixelwiseKey
from unveil.models.schemes.tanaka import Tanaka, TanakaKey

if TYPE_CHECKING:
    from unveil.models.recovery.color_ambiguity import ColorTransform

CURVE = "ssim_by_ciphertexts"
CURVE_TARGETS = 32  # images averaged for a point of the curve

Decrypt = Callable[[Images], Images]


@dataclass(frozen=True)
class KeyRecoverySettings:
    ciphertexts: int = setting(64, "Ciphertexts from which the key is computed", minimum=1, maximum=4096)
    curve: bool = setting(True, "Also recover from 1, 2, 4, ... ciphertexts and report the SSIM of each")


class KeyRecovery(Attack[KeyRecoverySettings]):
    """Computes the key from ciphertexts alone; public image statistics resolve the remaining ambiguity."""

    name = "key-recovery"
    title = "Key recovery"
    source = "Unveil"
    threat_model = ThreatModel.CIPHERTEXT_ONLY
    Settings = KeyRecoverySettings

    def required_ciphertexts(self) -> int:
        return self.settings.ciphertexts

    def not_applicable_reason(self, scheme: Scheme[Any, Any]) -> str | None:
        if not isinstance(scheme, Pixelwise | Tanaka):
            return "knows the structure of pixel-wise encryption and of Tanaka's scheme only"
        if scheme.key_per_image:
            return "every image has a key of its own: a ciphertext reveals nothing about the key of another image"
        return None

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:
        ciphertexts = np.concatenate([attack_input.observed, attack_input.targets])[: self.settings.ciphertexts]
        fewer = (
            [2**i for i in range(len(ciphertexts).bit_length()) if 2**i < len(ciphertexts)]
            if self.settings.curve
            else []
        )
        ablation = []
        for i, count in enumerate([*fewer, len(ciphertexts)]):
            context.report(i / (len(fewer) + 1), f"{count} ciphertexts")
            # The targets are ciphertexts as well, and their colours count.
            to_read = np.concatenate([attack_input.targets, attack_input.observed[:count]])
            decrypt, key, color_transform = recover_key(attack_input.scheme, ciphertexts[:count], to_read, context.seed)
            reconstructed = decrypt(
                attack_input.targets if count == len(ciphertexts) else attack_input.targets[:CURVE_TARGETS]
            )
            if self.settings.curve:
                ablation.append((CURVE, float(count), reconstructed[:CURVE_TARGETS]))
        note = f"inversion and channel order chosen with probability {color_transform.probability:.3f}"
        return AttackResult(
            reconstructed=reconstructed,
            key=key,
            metrics={
                "ciphertexts": float(len(ciphertexts)),
                "ciphertexts_for_colours": float(color_transform.image_count),
                "colour_probability": color_transform.probability,
            },
            ablation=ablation,
            notes=(f"{note} on {color_transform.image_count} of the ciphertexts",),
        )


def recover_key(
    scheme: Scheme[Any, Any] | None, ciphertexts: Images, to_read: Images, seed: int
) -> tuple[Decrypt, PixelwiseKey | TanakaKey, ColorTransform]:
    """A decryption function, the key in the form of the scheme, and the chosen colour transform.

    The first images of `to_read` determine the colour transform. Raises AttackFailed.
    """
    try:
        if isinstance(scheme, Pixelwise):
            return _recover_pixelwise(scheme, ciphertexts, to_read)
        if isinstance(scheme, Tanaka):
            return _recover_tanaka(scheme, ciphertexts, to_read, seed)
    except ValueError as error:
        raise AttackFailed(str(error)) from error
    raise AttackFailed("key recovery needs ciphertexts of pixel-wise encryption or of Tanaka's scheme")


def _recover_pixelwise(
    scheme: Pixelwise, ciphertexts: Images, to_read: Images
) -> tuple[Decrypt, PixelwiseKey, ColorTransform]:
    from unveil.models.recovery import color_ambiguity, pixelwise

    key = pixelwise.recover_relative_key(ciphertexts)
    color_transform = color_ambiguity.choose_color_transform(scheme.decrypt(to_read[: color_ambiguity.MAX_IMAGES], key))
    key = pixelwise.transform_key(key, color_transform.order, negative=color_transform.negative)
    return lambda images: scheme.decrypt(images, key), key, color_transform


def _recover_tanaka(
    scheme: Tanaka, ciphertexts: Images, to_read: Images, seed: int
) -> tuple[Decrypt, TanakaKey, ColorTransform]:
    from unveil.models.recovery import color_ambiguity, tanaka

    variant = scheme.settings.variant
    permutation = tanaka.recover_permutation(ciphertexts, seed)
    evidence = tanaka.rule_evidence(permutation) if variant == "icce2018" else None
    color_transform = color_ambiguity.choose_color_transform(
        permutation.decrypt(to_read[: color_ambiguity.MAX_IMAGES]), evidence
    )
    permutation = permutation.transform(color_transform.order, negative=color_transform.negative)
    return permutation.decrypt, permutation.to_key(variant), color_transform
