"""Reconstructions from fewer pairs than an attack has, for a curve."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from unveil.models.attacks.ciphertext_curve import CURVE_TARGETS
from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images

CURVE = "ssim_by_pairs"

Decrypt = Callable[[Images], Images]


@dataclass(frozen=True)
class PairCurve:
    """points: as the `ablation` of an attack. notes: on points that are missing."""

    points: tuple[tuple[str, float, Images], ...]
    notes: tuple[str, ...]


def make_pair_curve(
    fewer: Iterable[int], solve: Callable[[int], Decrypt], targets: Images, count: int, reconstructed: Images
) -> PairCurve:
    """solve: the decryption function from so many pairs; may raise AttackFailed. reconstructed: from all `count`."""
    points, notes = list[tuple[str, float, Images]](), list[str]()
    for number in fewer:
        try:
            points.append((CURVE, float(number), solve(number)(targets[:CURVE_TARGETS])))
        except AttackFailed as failure:
            notes.append(f"nothing recovered from {format_pairs(number)}: {failure}")
    return PairCurve((*points, (CURVE, float(count), reconstructed[:CURVE_TARGETS])), tuple(notes))


def format_pairs(count: int) -> str:
    return f"{count} pair{'s' if count > 1 else ''}"
