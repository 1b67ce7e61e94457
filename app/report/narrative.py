"""Verdicts, threat models and cells in plain words, for readers who never saw the paper."""

from __future__ import annotations

from collections.abc import Mapping

from unveil.app.db.job_states import Status
from unveil.app.evaluations.schemas import CellOut, ResultOut
from unveil.app.report.labels import title
from unveil.app.report.model import KEY_SPACE_ATTACK, SchemeRow

# What an attacker holds, besides the algorithm.
THREAT_MODEL_DESCRIPTIONS: Mapping[str, str] = {
    "ciphertext-only": "only protected images, such as anyone who stores or classifies them holds",
    "+public images": "protected images, and photographs of the same kind from elsewhere, unrelated to them",
    "known-plaintext": "some originals together with their protected images, as when a few of them were published",
    "chosen-plaintext": "the protected images of pictures of his own choice, as any client of the service can get",
}

_MATERIAL_UNITS = {
    "ciphertexts": ("protected image", "protected images"),
    "pairs": ("pair of original and protected image", "pairs of original and protected images"),
    "queries": ("picture of the attacker's own", "pictures of the attacker's own"),
}


def describe_verdict(row: SchemeRow) -> str:
    """What the attacks mean for whoever relies on the scheme."""
    assert row.verdict is not None
    word, cell = row.verdict["verdict"], row.verdict_cell
    if word == "no leak found":
        attempted = sum(
            cell.status is Status.SUCCEEDED and cell.attack["name"] != KEY_SPACE_ATTACK for cell in row.cells
        )
        return (
            f"None of the {attempted} attacks tried brought out more than chance. That says how far these attacks go, "
            "not that no better one exists."
        )
    if word == "inconclusive" or cell is None or cell.result is None:
        return f"No conclusion: {row.verdict['because']}."
    attack_title = title(cell.attack, row.profile)
    if word == "broken":
        return f"Do not rely on it: {_describe_break(attack_title, cell.attack['name'], cell.result)}"
    return f"It does not hide which image is which. {_describe_leak(attack_title, cell.attack['name'], cell.result)}"


def requirements(cell: CellOut) -> str:
    """What the attacker of a cell holds."""
    return THREAT_MODEL_DESCRIPTIONS.get(cell.threat_model, cell.threat_model)


def format_percent(share: float) -> str:
    """0.002 -> 0.2 %; 0.44 -> 44 %."""
    return f"{100 * share:.{1 if 0 < share < 0.1 else 0}f} %"


def _describe_break(attack_title: str, attack: str, result: ResultOut) -> str:
    if attack == KEY_SPACE_ATTACK:
        return "it has so few keys that all of them can be tried."
    if (result.key_agreement or {}).get("exact"):
        return (
            f"{attack_title} found the key itself{_describe_material(result)}. "
            "Every image under that key can be read, exactly as it was."
        )
    ssim = (result.ssim or {})["mean"]
    return f"{attack_title} shows the images almost as they were, SSIM {ssim:.2f} where 1 is the original."


def _describe_leak(attack_title: str, attack: str, result: ResultOut) -> str:
    identification = result.identification or {}
    subject = (
        "The protected images themselves, without any attack, let"
        if attack == "none"
        else f"Not every detail can be read, but {attack_title} lets"
    )
    return (
        f"{subject} an attacker pick the right original out of {identification['gallery']} "
        f"in {format_percent(identification['top1'])} of cases; "
        f"guessing would be right in {format_percent(identification['chance'])}."
    )


def _describe_material(result: ResultOut) -> str:
    """How little it took: ` from 64 protected images`."""
    numbers = (result.model_extra or {}).get("numbers") or {}
    for unit, (one, many) in _MATERIAL_UNITS.items():
        if unit in numbers:
            description = f" from {numbers[unit]:.0f} {one if numbers[unit] == 1 else many}"
            color_count = numbers.get(f"{unit}_for_colours", 0)
            return description + (f", its colours from {color_count:.0f}" if color_count > numbers[unit] else "")
    return ""
