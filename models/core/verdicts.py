"""From scores to verdicts: on one cell, and on a scheme over all attacks that apply (SCIENCE section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from unveil.models.core.cell_result import CellResult
from unveil.models.core.json_record import JsonRecord
from unveil.models.core.verdict_rules.types import Verdict

BROKEN_SSIM = 0.9
SEARCHABLE_BITS = 80  # an exhaustive search of fewer bits is within reach
WORST_FIRST: tuple[Verdict, ...] = ("broken", "leaks", "inconclusive", "no leak found")

_MATERIAL = {"ciphertexts": "ciphertext", "pairs": "pair", "queries": "query"}


@dataclass(frozen=True)
class AttackOutcome:
    """How one attack on a scheme ended, or how far it has come. status: of its job."""

    attack: str
    status: str
    result: CellResult | None


@dataclass(frozen=True, kw_only=True)
class SchemeVerdict(JsonRecord):
    """The worst case over the attacks on a scheme."""

    verdict: Verdict
    because: str
    worst_attack: str | None = None


def with_verdict(result: CellResult) -> CellResult:
    """The result with the verdict that follows from its scores."""
    return replace(result, verdict=cell_verdict(result))


def cell_verdict(result: CellResult) -> Verdict:
    """The verdict on the scores of a finished cell."""
    if result.effective_bits is not None:
        return "broken" if result.effective_bits < SEARCHABLE_BITS else "no leak found"
    if result.found_exact_key or (result.ssim is not None and result.ssim.mean >= BROKEN_SSIM):
        return "broken"
    if result.failed_controls or result.identification is None:
        return "inconclusive"
    return "leaks" if result.identification.above_chance else "no leak found"


def scheme_verdict(outcomes: Sequence[AttackOutcome]) -> SchemeVerdict:
    """The worst case over one scheme's cells. An attack that failed or was cancelled proves nothing."""
    finished = [(each.attack, each.result) for each in outcomes if each.status == "succeeded" and each.result]
    missing = [each.attack for each in outcomes if each.status in ("failed", "cancelled")]
    pending = any(each.status in ("queued", "running", "cancelling") for each in outcomes)
    if not finished:
        because = "its attacks are still running" if pending else "no attack on it finished"
        return SchemeVerdict(verdict="inconclusive", because=because)
    attack, result = min(finished, key=lambda each: each[1].severity_rank)
    if result.verdict == "no leak found" and (missing or pending):
        because = "attacks are still running" if pending else f"{', '.join(missing)} did not finish"
        return SchemeVerdict(verdict="inconclusive", because=because)
    return SchemeVerdict(verdict=result.verdict, because=_explain_verdict(attack, result), worst_attack=attack)


def _explain_verdict(attack: str, result: CellResult) -> str:
    subject, s = ("the unattacked ciphertexts", "") if attack == "none" else (attack, "s")
    identified = result.identification
    if result.verdict == "broken":
        return _explain_break(attack, f"{subject} show{s}", result)
    if result.verdict == "leaks" and identified is not None:
        share, chance = f"{identified.top1:.0%} of images", f"(chance {identified.chance:.1%})"
        return f"{subject} let{s} {share} be picked out of {identified.gallery} {chance}"
    if result.verdict == "inconclusive":
        failed = result.failed_controls
        plural = "s" if len(failed) > 1 else ""
        return (
            f"the {' and '.join(failed)} control{plural} of {attack} failed"
            if failed
            else f"{subject} could not be scored"
        )
    return "no attack that applies found more than chance"


def _explain_break(attack: str, subject_shows: str, result: CellResult) -> str:
    if result.effective_bits is not None:
        return f"only 2^{result.effective_bits:.0f} keys: an exhaustive search succeeds"
    if result.found_exact_key:
        return f"{attack} found the exact key{_describe_material_used(result)}"
    return subject_shows + " the images" + ("" if result.ssim is None else f" at SSIM {result.ssim.mean:.2f}")


def _describe_material_used(result: CellResult) -> str:
    for units, unit in _MATERIAL.items():
        count, for_colours = result.numbers.get(units), result.numbers.get(f"{units}_for_colours", 0)
        if count is not None:
            used = f" from {count:.0f} {unit if count == 1 else units}"
            return used + (f", its colours from {for_colours:.0f}" if for_colours > count else "")
    return ""
