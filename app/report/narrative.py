"""Verdicts, threat models and cells in plain words, for readers who do not know the paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from unveil.app.report.evaluation import Cell, EvaluationVerdict
from unveil.app.report.labels import format_duration, format_percent, title
from unveil.models.core.verdict_rules.coverage import describe_notes
from unveil.models.core.verdict_rules.types import EARLIER_RULES, WORST_FIRST, CheapestBreak

# What an attacker holds besides the algorithm.
THREAT_MODEL_DESCRIPTIONS: Mapping[str, str] = {
    "ciphertext-only": "protected images only, as a service that stores or classifies them does",
    "+public images": "protected images, and other images of the same kind",
    "known-plaintext": "some originals with their protected images, for example because a few were published",
    "chosen-plaintext": "protected versions of images of their own choice, which any client of the service can request",
    "+model": "protected images, and a classifier that was trained on protected images",
}

_OPENINGS = {
    "broken": "Do not rely on it: ",
    "leaks": "It does not hide the images: ",
    "inconclusive": "No conclusion: ",
    "no leak found": "",
}
_SEVERITY_UNITS = {
    "key": "of keys found",
    "ssim": "mean SSIM",
    "linkage": "of images linked",
    "identification": "of images identified",
}
_MATERIAL_UNITS = {
    "ciphertexts": ("protected image", "protected images"),
    "pairs": ("pair of original and protected image", "pairs of original and protected images"),
    "queries": ("image of the attacker's choice", "images of the attacker's choice"),
}


def summarize(verdicts: Sequence[EvaluationVerdict]) -> str:
    """One line on an evaluation: `4 schemes: 3 broken, 1 leaks. Cheapest break: 2 protected images, 4 s.`"""
    counts = Counter(verdict.verdict for verdict in verdicts)
    words = ", ".join(f"{counts[word]} {word}" for word in WORST_FIRST if counts[word])
    schemes = f"{len(verdicts)} scheme{'' if len(verdicts) == 1 else 's'}: {words}."
    breaks = [verdict.cheapest_break for verdict in verdicts if verdict.cheapest_break]
    if not breaks:
        return schemes
    return f"{schemes} Cheapest break: {describe_break(min(breaks, key=break_cost))}."


def badge(verdict: EvaluationVerdict) -> str:
    """The verdict with its severity: `leaks, 77 %`, `broken, 83 % of keys`."""
    severity = verdict.severity
    if severity is None or verdict.verdict not in ("broken", "leaks"):
        return verdict.verdict
    if severity.kind == "ssim":
        return f"{verdict.verdict}, SSIM {severity.value:.2f}"
    if severity.kind == "key":
        return (
            verdict.verdict if severity.value == 1 else f"{verdict.verdict}, {format_percent(severity.value)} of keys"
        )
    return f"{verdict.verdict}, {format_percent(severity.value)}"


def describe_verdict(verdict: EvaluationVerdict) -> str:
    """A verdict as a sentence for readers who rely on the scheme, and another on a trained part that is missing."""
    because = describe_reason(verdict)
    opening = "" if verdict.rules_version == EARLIER_RULES else _OPENINGS[verdict.verdict]
    sentence = f"{opening}{because}." if opening else f"{because[:1].upper()}{because[1:]}."
    if verdict.verdict == "no leak found":
        sentence += " A better attack may still exist."
    missing = describe_missing_part(verdict)
    return sentence if missing is None else f"{sentence} {missing[:1].upper()}{missing[1:]}."


def describe_missing_part(verdict: EvaluationVerdict) -> str | None:
    """Which trained part the scheme lacks; None if it is complete or unknown."""
    from unveil.models import catalog  # loads NumPy, which lists on the command line do not need

    scheme = catalog.schemes().get(str(verdict.scheme.get("name")))
    return None if scheme is None else scheme.missing_part_note()


def describe_reason(verdict: EvaluationVerdict) -> str:
    """The reason of a verdict with the title of its attack: `Key recovery found the exact key from 16 ciphertexts`."""
    attack = verdict.worst_attack
    if attack is None:
        return verdict.because
    clauses = verdict.because.split("; ")
    starts = f"{attack} "
    named = [title({"name": attack}) + c.removeprefix(attack) if c.startswith(starts) else c for c in clauses]
    return "; ".join(named)


def describe_evidence(verdict: EvaluationVerdict) -> Iterator[tuple[str, str]]:
    """Severity, power and coverage of a verdict, as pairs of a term and its text."""
    if verdict.rules_version == EARLIER_RULES:
        return
    severity, power = verdict.severity, verdict.power
    is_finding = verdict.verdict in ("broken", "leaks")
    if severity is not None and is_finding:
        as_text = format_percent if severity.kind != "ssim" else "{:.2f}".format
        what = _SEVERITY_UNITS[severity.kind]
        interval = f"95 % interval {as_text(severity.ci_low)} to {as_text(severity.ci_high)}"
        unit = ("key" if severity.kind == "key" else "image") + ("" if severity.images == 1 else "s")
        measured_on = f", {severity.images} {unit}" if severity.images else ""
        yield "Severity", f"{as_text(severity.value)} {what} ({interval}{measured_on})"
    if power is not None and not is_finding:
        bound, chance = format_percent(power.upper_bound), format_percent(power.chance)
        sizes = f"{power.images} image{'' if power.images == 1 else 's'}, {power.effective_gallery:.0f} distinct"
        yield "Power", f"a leak above {bound} of images would have been detected (chance {chance}, {sizes})"
    yield "Covers", ", ".join(verdict.covers) or "no threat model"
    if verdict.not_claimed:
        yield "No claim", "; ".join(f"{note.threat_model}: {note.reason}" for note in verdict.not_claimed)
    if verdict.tried:
        yield "Tried", ", ".join(title({"name": note.attack}) for note in verdict.tried)
    if verdict.verdict == "inconclusive":
        return  # its reason names them
    for term, notes in (("Not tried", verdict.not_tried), ("Weakened", verdict.weakened)):
        if notes:
            yield term, describe_notes(notes, lambda attack: title({"name": attack}))


def describe_paper_verdicts(verdicts: Mapping[str, str]) -> str:
    """The paper's verdicts on a scheme by attack, as `robust against FR-Attack; not robust against GAN-Attack`."""
    by_verdict: dict[str, list[str]] = {}
    for attack, verdict in verdicts.items():
        by_verdict.setdefault(verdict, []).append(title({"name": attack}))
    return "; ".join(
        f"{verdict} against {', '.join(by_verdict[verdict])}" for verdict in sorted(by_verdict, reverse=True)
    )


def requirements(cell: Cell) -> str:
    """What the attacker of a cell holds."""
    return describe_threat_model(cell.threat_model)


def describe_threat_model(name: str) -> str:
    """What an attacker of a threat model holds; a model without a description is described by its name."""
    return THREAT_MODEL_DESCRIPTIONS.get(name, f"the material of the threat model {name}")


def break_cost(cheapest: CheapestBreak) -> tuple[int, float]:
    """Sorts breaks, the cheapest first: the images that the attacker needs, then the seconds."""
    return sum(getattr(cheapest, unit) or 0 for unit in _MATERIAL_UNITS), cheapest.seconds or 0.0


def describe_break(cheapest: CheapestBreak) -> str:
    """`2 protected images, 4 s`; without material, the attack itself."""
    material = _describe_material(cheapest) or [title({"name": cheapest.attack})]
    return ", ".join([*material, *([format_duration(cheapest.seconds)] if cheapest.seconds is not None else [])])


def break_headline(cheapest: CheapestBreak) -> str:
    """`broken with 2 protected images in 4 s`; without material, `broken by` the attack."""
    material = _describe_material(cheapest)
    means = f"with {' and '.join(material)}" if material else f"by {in_sentence(title({'name': cheapest.attack}))}"
    return f"broken {means}" + (f" in {format_duration(cheapest.seconds)}" if cheapest.seconds is not None else "")


def in_sentence(title: str) -> str:
    """`Brute force` -> `brute force`; abbreviations such as `ITN` stay."""
    return title[:1].lower() + title[1:] if title[1:2].islower() else title


def _describe_material(cheapest: CheapestBreak) -> list[str]:
    counts = [(getattr(cheapest, unit), words) for unit, words in _MATERIAL_UNITS.items()]
    return [f"{count} {words[count != 1]}" for count, words in counts if count]
