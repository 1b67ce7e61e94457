"""Parts of the sentences that explain verdicts: numbers, lists of images, subjects."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unveil.models.core.verdict_rules.evidence import Effort

_MAX_LISTED = 10  # images named in a sentence


def format_percent(share: float) -> str:
    """A share in percent: "12 %", below a tenth with one digit, "4.9 %"."""
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"


def attack_subject(attack: str) -> tuple[str, Callable[[str], str]]:
    """The subject of a sentence and its verb: "fr shows", but "the unattacked ciphertexts show"."""
    if attack == "none":
        return "the unattacked ciphertexts", lambda verb: verb
    if attack == "submitted":
        return "the submitted reconstructions", lambda verb: verb
    return attack, lambda verb: f"{verb}s"


def format_images(indices: Sequence[int], total: int) -> str:
    """ "2 of 60 images recognizably: 17, 23"."""
    return f"{len(indices)} of {total} images recognizably: {format_indices(indices)}"


def format_indices(indices: Sequence[int]) -> str:
    """ "3, 5 and 7 more", at most ten of them."""
    more = f" and {len(indices) - _MAX_LISTED} more" if len(indices) > _MAX_LISTED else ""
    return ", ".join(map(str, indices[:_MAX_LISTED])) + more


def format_effort(effort: Effort) -> str:
    """ " from 64 ciphertexts"; empty where the attack does not report it."""
    for name in ("ciphertexts", "pairs", "queries"):
        count = getattr(effort, name)
        if count is not None:
            singular = {"ciphertexts": "ciphertext", "pairs": "pair", "queries": "query"}[name]
            return f" from {count} {singular if count == 1 else name}"
    return ""
