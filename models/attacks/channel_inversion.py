"""Inversion of frequency channels: every public key is tried, and the one that fits gives the image."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.core.errors import AttackFailed
from unveil.models.core.run_context import RunContext
from unveil.models.core.structure import ChannelSubset
from unveil.models.core.threat_models import ThreatModel
from unveil.models.schemes.base import NoSettings, Scheme

_MAX_PIXELS = 256 * 256  # of an image: the sparse matrices of larger ones take gigabytes


class ChannelInversion(Attack[NoSettings]):
    """Finds the key of each image by trying all, then the image by least squares on its frequency channels.

    No network is trained and no other image is used. The mean of each colour is in no channel: the extremes of a
    reconstruction are put at equal distances from black and white.
    """

    name = "channel-inversion"
    title = "Inversion of frequency channels"
    source = "Unveil"
    threat_model = ThreatModel.CIPHERTEXT_ONLY
    takes = "ciphertext"
    core_seconds_per_target: ClassVar[float] = 0.012

    def not_applicable_reason(self, scheme: Scheme[Any, Any]) -> str | None:
        if not isinstance(scheme.structure, ChannelSubset):
            return "needs ciphertexts that are frequency channels, of public subsets in public orders"
        return None

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:
        from unveil.models.recovery.channel_subsets import invert

        structure = None if attack_input.scheme is None else attack_input.scheme.structure
        assert isinstance(structure, ChannelSubset)
        targets = np.asarray(attack_input.targets, np.float32)
        height, width = targets.shape[2:]
        if height * width > _MAX_PIXELS:
            raise AttackFailed(
                f"images of {width}x{height} pixels need too much memory; the attack takes up to {_MAX_PIXELS:,} pixels"
            )
        found = invert(targets, structure, lambda done: context.report(done, "inverting the channels"))
        keys = len(structure.subsets) * len(structure.orders)
        unexplained = float(np.median(found.unexplained))
        return AttackResult(
            reconstructed=found.images,
            metrics={"keys_tried": float(keys), "unexplained": unexplained},
            notes=(
                f"{keys} keys tried for each image; the best leaves {100 * unexplained:.2g} % of the energy (median)",
            ),
        )
