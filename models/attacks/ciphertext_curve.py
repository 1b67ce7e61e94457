"""Recovery of a key or map from some ciphertexts, and from fewer of them for a curve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import numpy as np

from unveil.models.attacks.base import AttackInput, Inverse
from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images
from unveil.models.core.run_context import OnStep, RunContext
from unveil.models.core.settings_schema import setting

CURVE = "ssim_by_ciphertexts"
CURVE_TARGETS = 32  # images averaged for a point of the curve


@dataclass(frozen=True)
class CiphertextSettings:
    ciphertexts: int = setting(
        64, "Ciphertexts from which the key or map is computed", minimum=1, maximum=4096, stronger="higher"
    )
    curve: bool = setting(
        True, "Also recover from 1, 2, 4, ... ciphertexts and report the SSIM of each", stronger="neutral"
    )


InverseT = TypeVar("InverseT", bound=Inverse)
ColorT = TypeVar("ColorT")


@dataclass(frozen=True)
class Recovery(Generic[InverseT, ColorT]):
    """inverse, color: from all ciphertexts. count: of these. notes: on points of the curve that are missing."""

    inverse: InverseT
    color: ColorT
    reconstructed: Images
    count: int
    ablation: tuple[tuple[str, float, Images], ...]
    notes: tuple[str, ...]


def recover_with_curve(
    attack_input: AttackInput,
    settings: CiphertextSettings,
    context: RunContext,
    recover: Callable[[Images, Images, OnStep], tuple[InverseT, ColorT]],
) -> Recovery[InverseT, ColorT]:
    """recover: from ciphertexts, and from images whose colours count. Raises AttackFailed if all are too few."""
    targets, observed = attack_input.targets, attack_input.observed
    ciphertexts = np.concatenate([observed, targets])[: settings.ciphertexts]
    curve = settings.curve and context.ablation
    fewer = [2**i for i in range(len(ciphertexts).bit_length()) if 2**i < len(ciphertexts)] if curve else []

    def recover_from(count: int, points_done: int) -> tuple[InverseT, ColorT]:
        report = partial(context.report, points_done / (len(fewer) + 1), f"{count} ciphertexts")
        report()
        # The targets are ciphertexts as well, and their colours count.
        return recover(ciphertexts[:count], np.concatenate([targets, observed[:count]]), report)

    # The recovery that the verdict rests on comes first: if it fails, no curve is computed.
    inverse, color = recover_from(len(ciphertexts), 0)
    reconstructed = inverse.decrypt(targets)
    ablation, notes = list[tuple[str, float, Images]](), list[str]()
    for points_done, count in enumerate(fewer, 1):
        try:
            from_fewer, _ = recover_from(count, points_done)
        except AttackFailed as failure:
            notes.append(f"nothing recovered from {count} ciphertexts: {failure}")
            continue
        ablation.append((CURVE, float(count), from_fewer.decrypt(targets[:CURVE_TARGETS])))
    if curve:
        ablation.append((CURVE, float(len(ciphertexts)), reconstructed[:CURVE_TARGETS]))
    return Recovery(inverse, color, reconstructed, len(ciphertexts), tuple(ablation), tuple(notes))
