"""Statistics: whether ciphertexts of an unknown scheme differ from random values, and how.

A finding is a note of the cell, not a verdict: values that are not random need not be readable. The tests are
in `unveil.models.structural.randomness`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.attacks.structure import DECLARED_STRUCTURE
from unveil.models.core.images import Images, quantise
from unveil.models.core.run_context import RunContext
from unveil.models.core.settings_schema import setting
from unveil.models.core.threat_models import ThreatModel
from unveil.models.schemes.base import Scheme

_MAX_NOTES = 6  # findings that are spelt out
_MIN_IMAGES = 8  # to standardise a position over images
_TARGET_STD = 60.0  # grey levels, of natural images


@dataclass(frozen=True)
class StatisticsSettings:
    ciphertexts: int = setting(200, "Number of ciphertexts that are tested", minimum=1, maximum=200, stronger="higher")


class StatisticsAttack(Attack[StatisticsSettings]):
    """Tests ciphertexts for uniform values, repeats, correlation and compressibility; undoes a shared mask."""

    name = "statistics"
    title = "Statistics of ciphertexts"
    source = "Unveil"
    threat_model = ThreatModel.CIPHERTEXT_ONLY
    Settings = StatisticsSettings
    runs_first = True

    def required_ciphertexts(self) -> int:
        return self.settings.ciphertexts

    def not_applicable_reason(self, scheme: Scheme[Any, Any]) -> str | None:
        return None if scheme.structure is None else DECLARED_STRUCTURE

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:
        from unveil.models.structural.randomness import BITS_OF_POSITIONS, ERROR, run_tests

        context.report(0.0, "testing the ciphertexts")
        targets = attack_input.targets
        ciphertexts = np.concatenate([attack_input.observed, targets])[: self.settings.ciphertexts]
        tests = run_tests(ciphertexts)
        found = [test for test in tests if test.significant]
        notes = [f"{test.statement}; p {_format_p(test.p_value)}" for test in found[:_MAX_NOTES]]
        notes.append(
            f"{len(found)} of {len(tests)} tests distinguish {len(ciphertexts)} ciphertexts from random values "
            f"(p-values are corrected for all tests; at most {100 * ERROR:.0f} % of sound ciphers have a finding)"
        )
        masked, enough = any(test.name == BITS_OF_POSITIONS for test in found), len(ciphertexts) >= _MIN_IMAGES
        if masked:
            notes.append(
                "each position was brought to the mean and spread of natural images to undo a shared mask"
                if enough
                else f"a shared mask was found but not undone, which takes at least {_MIN_IMAGES} ciphertexts"
            )
        return AttackResult(
            reconstructed=_standardise(targets, ciphertexts) if masked and enough else targets,
            metrics={
                "ciphertexts": float(len(ciphertexts)),
                "tests": float(len(tests)),
                "findings": float(len(found)),
                "smallest_p": tests[0].p_value,
            },
            notes=tuple(notes),
        )


def _format_p(p_value: float) -> str:
    return "< 1e-99" if p_value < 1e-99 else f"= {p_value:.1g}"


def _standardise(targets: Images, ciphertexts: Images) -> Images:
    """Each position brought to the mean and spread of natural images, which undoes a mask that is added or blended."""
    mean = ciphertexts.mean(axis=0, dtype=np.float64)
    std = ciphertexts.std(axis=0, dtype=np.float64)
    return quantise(127.5 + (targets - mean) * (_TARGET_STD / np.maximum(std, 1.0)))
