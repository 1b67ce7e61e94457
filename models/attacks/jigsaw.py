"""Jigsaw: each ciphertext alone, its blocks put together like a puzzle (Chuman and Kiya 2023) [M].

The attack needs one ciphertext and no training, so a key for each image does not stop it. The algorithm is in
`unveil.models.recovery.jigsaw`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.attacks.key_recovery import recover_map
from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images
from unveil.models.core.run_context import OnStep, RunContext
from unveil.models.core.structure import BlockMap, BlockScramble, Structure, is_moved_value_map
from unveil.models.core.threat_models import ThreatModel
from unveil.models.schemes.base import Scheme

if TYPE_CHECKING:
    from unveil.models.core.verdict_rules.evidence import Ambiguity

UNKNOWN_STRUCTURE = "needs a scheme that moves whole blocks, whose values stay in place within their block"


@dataclass(frozen=True)
class JigsawSettings:
    pass


class Jigsaw(Attack[JigsawSettings]):
    """Puts the blocks of each ciphertext together by the continuity of their borders, without any other image."""

    name = "jigsaw"
    title = "Jigsaw puzzle"
    source = "Chuman, Kiya 2023; Gallagher 2012; Unveil"
    threat_model = ThreatModel.CIPHERTEXT_ONLY
    Settings = JigsawSettings
    max_targets: ClassVar[int | None] = 30  # each is a puzzle of its own: up to 2 s for 144 blocks
    core_seconds_per_target: ClassVar[float] = 0.2

    def not_applicable_reason(self, scheme: Scheme[Any, Any]) -> str | None:
        structure = scheme.structure
        keeps_values = is_moved_value_map(structure) and not structure.units_move
        return None if isinstance(structure, BlockScramble) or keeps_values else UNKNOWN_STRUCTURE

    def assumptions(self, scheme: Scheme[Any, Any]) -> str:
        return str(scheme.structure)

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:
        scheme, targets = attack_input.scheme, attack_input.targets
        if scheme is None or self.not_applicable_reason(scheme):
            raise AttackFailed(UNKNOWN_STRUCTURE)
        structure = scheme.structure
        assert isinstance(structure, BlockScramble | BlockMap)
        reconstructed, failures = targets.copy(), list[str]()
        for i in range(len(targets)):
            report = partial(context.report, i / len(targets), f"ciphertext {i + 1} of {len(targets)}")
            report()
            try:
                reconstructed[i] = _solve(structure, targets[i : i + 1], context.seed, report)[0]
            except AttackFailed as failure:
                failures.append(str(failure))
        if len(failures) == len(targets):
            raise AttackFailed(failures[0] if failures else "there is no ciphertext to attack")
        notes = ["every ciphertext was put together by itself"]
        turned = isinstance(structure, BlockScramble)
        if turned:
            notes.append("which way up is unknown: scores are those of the best rotation or mirror of each image")
        if failures:
            notes.append(f"{len(failures)} ciphertexts could not be put together: {failures[0]}")
        ambiguity: Ambiguity | None = "rotation" if turned else None
        return AttackResult(
            reconstructed=reconstructed,
            metrics={"ciphertexts": 1.0},
            notes=tuple(notes),
            ambiguity=ambiguity,
            ambiguity_per_image=turned,
            assembled_side=structure.side,
        )


def _solve(structure: Structure, ciphertext: Images, seed: int, on_step: OnStep) -> Images:
    """The reconstruction uint8 [1, H, W, 3] of one ciphertext. Raises AttackFailed."""
    from unveil.models.recovery import jigsaw, orientation

    if not isinstance(structure, BlockScramble):
        return recover_map(structure, ciphertext, ciphertext, seed, on_step=on_step)[0].decrypt(ciphertext)
    try:
        inverse = jigsaw.assemble(ciphertext[0], structure.side, on_step)
    except ValueError as error:
        raise AttackFailed(str(error)) from error
    found = orientation.choose_orientation(inverse.decrypt(ciphertext))
    return inverse.transform(found.quarter_turns, found.color.order, negative=found.color.negative).decrypt(ciphertext)
