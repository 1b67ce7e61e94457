"""The images of one cell, and what of them an attacker gets to see under each threat model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from unveil.models.attacks.base import Attack, Material, Pairs
from unveil.models.core.images import Images
from unveil.models.core.threat_models import ThreatModel
from unveil.models.evaluation.oracle import Oracle
from unveil.models.schemes.base import Scheme

Protect = Callable[[Images, int], Images]  # images, number of the first one -> their ciphertexts


@dataclass(frozen=True)
class Lab:
    """All plain, uint8 [N, H, W, 3]."""

    targets: Images  # behind the ciphertexts that are attacked
    pool: Images  # of the same owner: observed ciphertexts and pairs come from it
    public: Images  # the attacker's own


def lay_out(attack: Attack[Any], targets: Images, train: Images, public: Images | None = None) -> Lab:
    """Who owns what. Without `public` images, an attacker who needs some owns every second training image."""
    if public is not None:
        return Lab(targets, train, public)
    if attack.threat_model is ThreatModel.PUBLIC_IMAGES:
        return Lab(targets, train[0::2], train[1::2])  # the paper's T1 and T2: equal halves without a common image
    return Lab(targets, train, train[:0])


def allowed(
    scheme: Scheme[Any, Any] | None, attack: Attack[Any], lab: Lab, protect: Protect, number: int = 0
) -> Material:
    """Only what the attack's threat model allows: no key, and no plain image behind the targets.

    number: of the key among several. Each is watched on other images, as far as they go: several keys on the same
    pictures would be one trial of an attack that lives by its pictures.
    """
    plain = _observed(lab.pool, attack.observations(), number)
    protected = protect(lab.targets, 0)
    observed = protect(plain, len(lab.targets)) if len(plain) else protected[:0]
    model = attack.threat_model
    return Material(
        scheme=scheme,
        targets=protected,
        observed=observed,
        public=lab.public if model is ThreatModel.PUBLIC_IMAGES else None,
        pairs=Pairs(plain, observed) if model is ThreatModel.KNOWN_PLAINTEXT else None,
        oracle=Oracle(lambda images: protect(images, 0)) if model is ThreatModel.CHOSEN_PLAINTEXT else None,
    )


def _observed(pool: Images, count: int | None, number: int) -> Images:
    if count is None or count >= len(pool):
        return pool
    return pool.take(range(number * count, (number + 1) * count), axis=0, mode="wrap")
