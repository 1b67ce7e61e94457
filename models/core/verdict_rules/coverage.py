"""Coverage: the attacks that a profile requires, and those that did not run or ran with weaker settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unveil.models.core.json_record import JsonRecord
from unveil.models.core.settings_schema import Strength
from unveil.models.core.verdict_rules.evidence import CellEvidence

_PENDING = ("queued", "running", "cancelling")


@dataclass(frozen=True)
class RequiredAttack:
    """An attack of the profile that applies to the scheme and has the material it needs. settings: the profile's."""

    name: str
    threat_model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    strength: Mapping[str, Strength] = field(default_factory=dict)


@dataclass(frozen=True)
class AttackNote(JsonRecord):
    """An attack in a list of a verdict, with the reason. attack: empty for a whole threat model."""

    attack: str
    threat_model: str
    reason: str


@dataclass(frozen=True)
class Coverage:
    """tried: run at the profile's strength or more. not_tried, weakened: why they do not count."""

    tried: tuple[AttackNote, ...]
    not_tried: tuple[AttackNote, ...]
    weakened: tuple[AttackNote, ...]
    pending: bool  # some attack has not ended, whether the profile requires it or not


def coverage(required: Sequence[RequiredAttack], cells: Sequence[CellEvidence]) -> Coverage:
    """Compare the cells of one scheme with the attacks that its profile requires."""
    tried, not_tried, weakened = [], [], []
    for attack in required:
        own = [cell for cell in cells if cell.attack == attack.name]
        finished = [cell for cell in own if cell.status == "succeeded"]
        weaknesses = [weaker_settings(attack, cell.settings) for cell in finished]
        if any(not weakness for weakness in weaknesses):
            tried.append(AttackNote(attack.name, attack.threat_model, "at the profile's strength"))
        elif weaknesses:
            fewest: list[str] = min(weaknesses, key=len)
            weakened.append(AttackNote(attack.name, attack.threat_model, "; ".join(fewest)))
        else:
            not_tried.append(AttackNote(attack.name, attack.threat_model, _reason_not_tried(own)))
    names = {attack.name for attack in required}
    for cell in cells:
        if cell.status == "succeeded" and cell.attack not in names:
            tried.append(AttackNote(cell.attack, cell.threat_model, "beyond the profile"))
            names.add(cell.attack)
    pending = any(cell.status in _PENDING for cell in cells)
    return Coverage(tuple(tried), tuple(not_tried), tuple(weakened), pending)


def describe_notes(notes: Sequence[AttackNote], title: Callable[[str], str] = str) -> str:
    """The attacks of a list with the reason of each, a shared reason once: "none, fr (not requested)"."""
    attacks: dict[str, list[str]] = {}
    for note in notes:
        attacks.setdefault(note.reason, []).append(title(note.attack))
    return "; ".join(f"{', '.join(names)} ({reason})" for reason, names in attacks.items())


def weaker_settings(attack: RequiredAttack, settings: Mapping[str, Any]) -> list[str]:
    """Settings that make the attack weaker than the profile's, such as "L=1, the profile has 8"."""
    found = []
    for name, wanted in attack.settings.items():
        given = settings.get(name)
        if _is_as_strong(given, wanted, attack.strength.get(name)):
            continue
        undeclared = attack.strength.get(name) is None
        found.append(
            f"{name}={_format_value(given)}, the profile has {_format_value(wanted)}"
            + (" (the setting declares no stronger direction)" if undeclared else "")
        )
    return found


def _is_as_strong(given: Any, wanted: Any, strength: Strength) -> bool:
    if given == wanted or strength == "neutral":
        return True
    if strength is None:
        return False
    if isinstance(strength, tuple):
        return given in strength and wanted in strength and strength.index(given) >= strength.index(wanted)
    if given is None or wanted is None:  # such as a number of epochs that depends on the scheme
        return False
    return bool(given > wanted) if strength == "higher" else bool(given < wanted)


def _format_value(value: Any) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool | int | float) else str(value)


def _reason_not_tried(cells: Sequence[CellEvidence]) -> str:
    if not cells:
        return "not requested"
    status = cells[0].status
    if status in _PENDING:
        return "still running" if status != "queued" else "queued"
    words = {"failed": "failed", "cancelled": "cancelled", "not_applicable": "could not be run"}
    return words[status] + (f": {cells[0].reason}" if cells[0].reason else "")
