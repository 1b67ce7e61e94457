"""Known plaintext: the exact key of permutations from one to four pairs, and linear maps up to rounding [M]."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from unveil.models.attacks.base import Attack, AttackInput, AttackResult, Inverse, Pairs
from unveil.models.attacks.pair_curve import Decrypt, format_pairs, make_pair_curve
from unveil.models.core.errors import AttackFailed, DoesNotApply
from unveil.models.core.images import Images
from unveil.models.core.run_context import OnStep, RunContext
from unveil.models.core.settings_schema import setting
from unveil.models.core.structure import (
    BlockSubstitution,
    LinearMap,
    PixelMap,
    is_fixed_nibble_map,
    is_value_map,
)
from unveil.models.core.threat_models import ThreatModel
from unveil.models.schemes.base import Scheme
from unveil.models.schemes.pair_solving import InconsistentPairs, SolvedKey
from unveil.models.schemes.pixelwise import PixelwiseKey
from unveil.models.schemes.tanaka import BLOCK, NibblePermutation
from unveil.models.schemes.value_inverse import ValueInverse
from unveil.models.structural.declared import solve, solves

UNKNOWN_STRUCTURE = (
    "needs a scheme that permutes, inverts or mixes values by one map of a declared structure, or that solves its own "
    "keys from pairs"
)


@dataclass(frozen=True)
class KnownPlaintextSettings:
    pairs: int = setting(4, "Number of pairs of plain and protected images", minimum=1, maximum=64, stronger="higher")


@dataclass(frozen=True)
class Solution:
    """The map of pairs, and the key in the form of the scheme if it has one.

    determined: the share of the key that the pairs determine; None: unknown.
    """

    inverse: Inverse | None
    key: Any | None
    determined: float | None


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
        plain, protected = pairs.plain[:pair_count], pairs.protected[:pair_count]
        exact_by_count: dict[int, float] = {}

        def solve_first(count: int) -> tuple[Decrypt, Solution]:
            report = partial(context.report, len(exact_by_count) / pair_count, format_pairs(count))
            report()
            decrypt, solution = solve_pairs(scheme, pairs, count, attack_input.targets, report)
            exact_by_count[count] = float((decrypt(protected) == plain).mean())
            return decrypt, solution

        # The map that the verdict rests on comes first: if it fails, no curve is computed.
        decrypt, solution = solve_first(pair_count)
        reconstructed = decrypt(attack_input.targets)
        metrics = {"pairs": float(pair_count), "exact": exact_by_count[pair_count]}
        rounding = ", the rest up to rounding" if isinstance(scheme.structure, LinearMap) else ""
        note = f"reads {100 * metrics['exact']:.2f} % of the values of {format_pairs(pair_count)} exactly{rounding}"
        if solution.determined is not None:
            metrics["determined"] = solution.determined
            part = "table" if isinstance(scheme.structure, BlockSubstitution) else "key"
            note = f"{100 * solution.determined:.2f} % of the {part} follows from {format_pairs(pair_count)}"
        if not context.ablation:
            return AttackResult(reconstructed, solution.inverse, solution.key, metrics, notes=(note,))
        curve = make_pair_curve(
            range(1, pair_count), lambda count: solve_first(count)[0], attack_input.targets, pair_count, reconstructed
        )
        enough = min((count for count, exact in exact_by_count.items() if exact == 1), default=None)
        if enough is not None:
            metrics["pairs_needed"] = float(enough)
        if enough is not None and enough < pair_count:
            note += f"; {enough} of them suffice{'s' if enough == 1 else ''} to read all of them exactly"
        notes = (note, *curve.notes)
        return AttackResult(reconstructed, solution.inverse, solution.key, metrics, curve.points, notes=notes)


def solve_pairs(
    scheme: Scheme[Any, Any], pairs: Pairs, count: int, targets: Images, on_step: OnStep = lambda: None
) -> tuple[Decrypt, Solution]:
    """A decryption function, and what the first `count` pairs determine. on_step is called every few seconds at most.

    Raises AttackFailed, DoesNotApply.
    """
    from unveil.models.recovery import known_plaintext

    plain, protected = pairs.plain[:count], pairs.protected[:count]
    try:
        if scheme.brings_pair_solver:
            own = scheme.solve_pairs(plain, protected)
            decrypt = own.decrypt or (lambda images: scheme.decrypt(images, own.key))
            return decrypt, Solution(None, own.key, own.determined)
        structure = scheme.structure
        assert structure is not None
        on_step()
        solved: SolvedKey[PixelwiseKey] | SolvedKey[NibblePermutation] | SolvedKey[ValueInverse]
        if isinstance(structure, PixelMap):
            solved = known_plaintext.pixelwise(plain, protected, targets, on_step)
        elif is_fixed_nibble_map(structure, BLOCK):
            solved = known_plaintext.nibble_permutation(plain, protected)
        elif is_value_map(structure):
            solved = known_plaintext.value_map(plain, protected, structure)
        else:
            inverse = solve(structure, plain, protected)
            return inverse.decrypt, Solution(inverse, None, None)
    except InconsistentPairs as error:
        raise DoesNotApply(str(error)) from error
    except ValueError as error:
        raise AttackFailed(str(error)) from error
    return solved.key.decrypt, Solution(solved.key, scheme.key_from_map(solved.key), solved.determined)
