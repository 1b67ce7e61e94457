"""Verdicts, threat models and cells in plain words, for readers who never saw the paper."""

from __future__ import annotations

from collections.abc import Mapping

from unveil.app.report.evaluation import Cell
from unveil.app.report.labels import format_percent, title
from unveil.app.report.table import KEY_SPACE_ATTACK, SchemeRow
from unveil.models.core.cell_result import CellResult

# What an attacker has, besides the algorithm.
THREAT_MODEL_DESCRIPTIONS: Mapping[str, str] = {
    "ciphertext-only": "only protected images, like anyone who stores or classifies them",
    "+public images": "protected images, and unrelated images of the same kind from elsewhere",
    "known-plaintext": "some originals together with their protected images, for instance because a few were published",
    "chosen-plaintext": "the protected versions of images of their own choice, as any client of the service can get",
}

_MATERIAL_UNITS = {
    "ciphertexts": ("protected image", "protected images"),
    "pairs": ("pair of original and protected image", "pairs of original and protected images"),
    "queries": ("image of the attacker's choice", "images of the attacker's choice"),
}


def describe_verdict(row: SchemeRow) -> str:
    """What the attacks mean for those who rely on the scheme."""
    assert row.verdict is not None
    word, cell = row.verdict.verdict, row.verdict_cell
    if word == "no leak found":
        tried = sum(each.result is not None and each.column.name != KEY_SPACE_ATTACK for each in row.cells)
        return f"None of the {tried} attacks tried found more than chance. A better attack may still exist."
    if word == "inconclusive" or cell is None or cell.result is None:
        return f"No conclusion: {row.verdict.because}."
    if word == "broken":
        return f"Do not rely on it: {_describe_break(cell.column.title, cell.column.name, cell.result)}"
    return f"It does not hide which image is which. {_describe_leak(cell.column.title, cell.column.name, cell.result)}"


def describe_paper_verdicts(verdicts: Mapping[str, str]) -> str:
    """The paper's verdicts on a scheme by attack, as `robust against FR-Attack; not robust against GAN-Attack`."""
    by_verdict: dict[str, list[str]] = {}
    for attack, verdict in verdicts.items():
        by_verdict.setdefault(verdict, []).append(title({"name": attack}))
    return "; ".join(
        f"{verdict} against {', '.join(by_verdict[verdict])}" for verdict in sorted(by_verdict, reverse=True)
    )


def requirements(cell: Cell) -> str:
    """What the attacker of a cell has."""
    return describe_threat_model(cell.threat_model)


def describe_threat_model(name: str) -> str:
    """What an attacker of a threat model has; a model without a description is described by its name."""
    return THREAT_MODEL_DESCRIPTIONS.get(name, f"the material of the threat model {name}")


def _describe_break(attack_title: str, attack: str, result: CellResult) -> str:
    if attack == KEY_SPACE_ATTACK:
        return "it has so few keys that an attacker can try them all."
    if result.found_exact_key:
        return (
            f"{attack_title} found the key itself{_describe_material(result)}. "
            "It restores every image under that key exactly."
        )
    ssim = "" if result.ssim is None else f", SSIM {result.ssim.mean:.2f} where 1 is the original"
    return f"{attack_title} restores the images almost as they were{ssim}."


def _describe_leak(attack_title: str, attack: str, result: CellResult) -> str:
    subject = "The protected images alone" if attack == "none" else f"The reconstructions of {attack_title}"
    identified = result.identification
    if identified is None:
        return f"{subject} show more than chance."
    return (
        f"{subject} are enough to pick the right original out of {identified.gallery} "
        f"in {format_percent(identified.top1)} of cases; guessing is right in {format_percent(identified.chance)}."
    )


def _describe_material(result: CellResult) -> str:
    """What the attack used: ` from 64 protected images`."""
    for unit, (one, many) in _MATERIAL_UNITS.items():
        if unit in result.numbers:
            count, for_colours = result.numbers[unit], result.numbers.get(f"{unit}_for_colours", 0)
            description = f" from {count:.0f} {one if count == 1 else many}"
            return description + (f", its colours from {for_colours:.0f}" if for_colours > count else "")
    return ""
