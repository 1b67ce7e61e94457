"""Evaluations side by side: the settings in which they differ, and each pair of scheme and attack in all of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unveil.app.evaluations.schemas import CellOut, EvaluationOut
from unveil.app.report.labels import title
from unveil.models import catalog

MAX_EVALUATIONS = 4
_NOT_SETTINGS = frozenset({"name", "schemes", "attacks"})


@dataclass(frozen=True)
class SettingDiff:
    name: str
    values: list[str]


@dataclass(frozen=True)
class CellPair:
    """One line of the table: a cell for each evaluation that has it."""

    scheme: str
    attack: str
    cells: list[CellOut | None]

    @property
    def differs(self) -> bool:
        """Whether the verdicts do."""
        return len({cell.result.verdict for cell in self.cells if cell and cell.result}) > 1


@dataclass(frozen=True)
class Comparison:
    settings: list[SettingDiff]
    pairs: list[CellPair]


def compare(evaluations: Sequence[EvaluationOut]) -> Comparison:
    repeated_attacks = _find_repeated_attacks(evaluations)
    settings_by_evaluation = [_flatten_settings(evaluation, repeated_attacks) for evaluation in evaluations]
    names = list(dict.fromkeys(name for each in settings_by_evaluation for name in each))
    differing = [
        SettingDiff(name, [_format_value(each.get(name)) for each in settings_by_evaluation])
        for name in names
        if _values_differ(name, settings_by_evaluation)
    ]
    return Comparison(differing, _pair_cells(evaluations, repeated_attacks))


def _values_differ(name: str, settings_by_evaluation: Sequence[Mapping[str, Any]]) -> bool:
    """Among those that have the setting: who has not ordered the attack has none of it."""
    return len({_format_value(each[name]) for each in settings_by_evaluation if name in each}) > 1


def _find_repeated_attacks(evaluations: Sequence[EvaluationOut]) -> set[str]:
    """Attacks that an evaluation has twice, with other settings: a name does not tell them apart."""
    return {
        name
        for evaluation in evaluations
        for name, count in Counter(attack["name"] for attack in evaluation.settings["attacks"]).items()
        if count > 1
    }


def _flatten_settings(evaluation: EvaluationOut, repeated_attacks: set[str]) -> dict[str, Any]:
    own = {name: value for name, value in evaluation.settings.items() if name not in _NOT_SETTINGS}
    attacks = {
        f"{attack['name']}: {name}": value
        for attack in evaluation.settings["attacks"]
        if attack["name"] not in repeated_attacks
        for name, value in attack.items()
        if name not in ("name", "added")
    }
    return {**own, **attacks, **{f"{part} version": value for part, value in evaluation.versions.items()}}


def _format_value(value: Any) -> str:
    return "–" if value is None else value if isinstance(value, str) else json.dumps(value)


def _pair_cells(evaluations: Sequence[EvaluationOut], repeated_attacks: set[str]) -> list[CellPair]:
    """Attacks meet by name, for a profile changes their settings; those of `repeated` by their settings too."""
    by_pair: list[dict[tuple[str, str], CellOut]] = []
    for evaluation in evaluations:
        profile = evaluation.settings["profile"]
        by_pair.append(
            {(title(c.scheme, profile), _attack_title(c, profile, repeated_attacks)): c for c in evaluation.cells}
        )
    keys = list(dict.fromkeys(key for each in by_pair for key in each))
    return [CellPair(*key, [each.get(key) for each in by_pair]) for key in keys]


def _attack_title(cell: CellOut, profile: catalog.Profile, repeated_attacks: set[str]) -> str:
    entry = cell.attack if cell.attack["name"] in repeated_attacks else {"name": cell.attack["name"]}
    return title(entry, profile)
