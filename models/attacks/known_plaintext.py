"""Known plaintext: the exact key of permutations from one to four pairs, and linear maps up to rounding [M]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from unveil.models.attacks.base import Attack, AttackInput, AttackResult, Inverse, Pairs
from unveil.models.core.errors import AttackFailed, DoesNotApply
from unveil.models.core.images import Images
from unveil.models.core.run_context import OnStep, RunContext
from unveil.models.core.settings_schema import setting
from unveil.models.core.structure import PixelMap, is_fixed_block_map
from unveil.models.core.threat_models import ThreatModel
from unveil.models.schemes.base import Scheme
from unveil.models.schemes.pair_solving import InconsistentPairs
from unveil.models.schemes.tanaka import BLOCK
from unveil.models.structural.declared import solve, solves

Decrypt = Callable[[Images], Images]
CURVE = "ssim_by_pairs"
CURVE_TARGETS = 32
UNKNOWN_STRUCTURE = (
    "needs a scheme that permutes, inverts or mixes values by one map of a declared structure, or that solves its own "
    "keys from pairs"
)


@dataclass(frozen=True)
class KnownPlaintextSettings:
    pairs: int = setting(4, "Number of pairs of plain and protected images", minimum=1, maximum=64, stronger="higher")


@dataclass(frozen=True)
class Solution:
    """The map that pairs determine, the key in the form of the scheme, and the share of it that the pairs determine."""

    inverse: Inverse | None
    key: Any | None
    determined: float


class KnownPlaintext(Attack[KnownPlaintextSettings]):
    """Eliminates every key that is inconsistent with the pairs; among several for a pixel, takes the smoothest."""

    name = "known-plaintext"
    title = "Known plaintext"
    source = "Unveil"
    threat_model = ThreatModel.KNOWN_PLAINTEXT
    Settings = KnownPlaintextSettings

    def required_ciphertexts(self) -> int:
        return self.settings.pairs

    def not_applicable_reason(self, scheme: Scheme[Any, Any]) -> str | None:
        if (
            not isinstance(scheme.structure, PixelMap)
            and not scheme.brings_pair_solver
            and not solves(scheme.structure)
        ):
            return UNKNOWN_STRUCTURE
        if scheme.key_per_image:
            return "every image has a key of its own: a pair reveals nothing about the key of another image"
        return None

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:
        scheme, pairs = attack_input.scheme, attack_input.pairs
        if scheme is None:
            raise AttackFailed(UNKNOWN_STRUCTURE)
        if pairs is None or not len(pairs.plain):
            raise AttackFailed("at least one pair of a plain image and its ciphertext is needed; none was given")
        pair_count = min(self.settings.pairs, len(pairs.plain))
        ablation, pairs_needed, full_solution = [], pair_count, None
        for count in range(pair_count, 0, -1) if context.ablation else [pair_count]:
            report = partial(context.report, (pair_count - count) / pair_count, f"{count} pairs")
            report()
            decrypt, solution = solve_pairs(scheme, pairs, count, attack_input.targets, report)
            full_solution = full_solution or (decrypt, solution)
            ablation.append((CURVE, float(count), decrypt(attack_input.targets[:CURVE_TARGETS])))
            if (decrypt(pairs.protected[:pair_count]) == pairs.plain[:pair_count]).all():
                pairs_needed = count
        assert full_solution is not None
        decrypt, solution = full_solution
        return AttackResult(
            reconstructed=decrypt(attack_input.targets),
            inverse=solution.inverse,
            key=solution.key,
            metrics={
                "pairs": float(pair_count),
                "pairs_needed": float(pairs_needed),
                "determined": solution.determined,
            },
            ablation=ablation[::-1],
            notes=(
                (
                    f"{100 * solution.determined:.2f} % of the key follows from {pair_count} pairs; "
                    f"{pairs_needed} suffice for all"
                ),
            ),
        )


def solve_pairs(
    scheme: Scheme[Any, Any], pairs: Pairs, count: int, targets: Images, on_step: OnStep = lambda: None
) -> tuple[Decrypt, Solution]:
    """A decryption function, and what `count` pairs determine. on_step is called every few seconds at most.

    Raises AttackFailed, DoesNotApply.
    """
    from unveil.models.recovery import known_plaintext

    plain, protected = pairs.plain[:count], pairs.protected[:count]
    try:
        if scheme.brings_pair_solver:
            own = scheme.solve_pairs(plain, protected)
            return lambda images: scheme.decrypt(images, own.key), Solution(None, own.key, own.determined)
        if not isinstance(scheme.structure, PixelMap) and not is_fixed_block_map(scheme.structure, BLOCK):
            assert scheme.structure is not None
            on_step()
            explained = solve(scheme.structure, plain, protected)
            return explained.key.decrypt, Solution(explained.key, None, explained.determined)
        solved = (
            known_plaintext.pixelwise(plain, protected, targets, on_step)
            if isinstance(scheme.structure, PixelMap)
            else known_plaintext.nibble_permutation(plain, protected)
        )
    except InconsistentPairs as error:
        raise DoesNotApply(str(error)) from error
    except ValueError as error:
        raise AttackFailed(str(error)) from error
    return solved.key.decrypt, Solution(solved.key, scheme.key_from_map(solved.key), solved.determined)
