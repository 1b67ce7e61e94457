"""Evaluations side by side: the settings that differ, and each pair of scheme and attack in all of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from unveil.app.report.evaluation import Evaluation, EvaluationVerdict
from unveil.app.report.labels import title
from unveil.app.report.table import EvaluationTable, TableCell

MAX_EVALUATIONS = 4
_NOT_SETTINGS = frozenset({"name", "schemes", "attacks"})


@dataclass(frozen=True)
class SettingDiff:
    name: str
    values: list[str]


@dataclass(frozen=True)
class SchemeVerdicts:
    """The verdict on a scheme in each evaluation that includes it."""

    scheme: str
    verdicts: list[EvaluationVerdict | None]


@dataclass(frozen=True)
class CellPair:
    """One row of the comparison: a cell for each evaluation that includes the pair."""

    scheme: str
    attack: str
    cells: list[TableCell | None]

    @property
    def differs(self) -> bool:
        """Whether the verdicts differ."""
        return len({cell.verdict for cell in self.cells if cell and cell.verdict}) > 1


@dataclass(frozen=True)
class Comparison:
    settings: list[SettingDiff]
    schemes: list[SchemeVerdicts]
    pairs: list[CellPair]


def compare(evaluations: Sequence[Evaluation]) -> Comparison:
    repeated_attacks = _find_repeated_attacks(evaluations)
    settings_by_evaluation = [_flatten_settings(evaluation, repeated_attacks) for evaluation in evaluations]
    names = list(dict.fromkeys(name for each in settings_by_evaluation for name in each))
    differing = [
        SettingDiff(name, [_format_value(each.get(name)) for each in settings_by_evaluation])
        for name in names
        if _values_differ(name, settings_by_evaluation)
    ]
    by_scheme = [{row.title: row.verdict for row in EvaluationTable(evaluation).rows} for evaluation in evaluations]
    schemes = [SchemeVerdicts(name, [own.get(name) for own in by_scheme]) for name in dict.fromkeys(chain(*by_scheme))]
    return Comparison(differing, schemes, _pair_cells(evaluations, repeated_attacks))


def _values_differ(name: str, settings_by_evaluation: Sequence[Mapping[str, Any]]) -> bool:
    """Among the evaluations that have the setting: one without the attack has none of its settings."""
    return len({_format_value(each[name]) for each in settings_by_evaluation if name in each}) > 1


def _find_repeated_attacks(evaluations: Sequence[Evaluation]) -> set[str]:
    """Attacks that an evaluation includes twice with different settings."""
    return {
        name
        for evaluation in evaluations
        for name, count in Counter(attack["name"] for attack in evaluation.settings["attacks"]).items()
        if count > 1
    }


def _flatten_settings(evaluation: Evaluation, repeated_attacks: set[str]) -> dict[str, Any]:
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


def _pair_cells(evaluations: Sequence[Evaluation], repeated_attacks: set[str]) -> list[CellPair]:
    """Pairs attacks by name, since profiles change their settings; repeated ones by name and settings."""
    by_pair: list[dict[tuple[str, str], TableCell]] = []
    for evaluation in evaluations:
        cells = [(row.title, cell) for row in EvaluationTable(evaluation).rows for cell in row.cells]
        by_pair.append({(scheme, _attack_title(cell, repeated_attacks)): cell for scheme, cell in cells})
    keys = list(dict.fromkeys(key for each in by_pair for key in each))
    schemes = list(dict.fromkeys(scheme for scheme, _ in keys))
    keys.sort(key=lambda key: schemes.index(key[0]))  # stable: the attacks of a scheme keep their order
    return [CellPair(*key, [each.get(key) for each in by_pair]) for key in keys]


def _attack_title(cell: TableCell, repeated_attacks: set[str]) -> str:
    column = cell.column
    return column.title if column.name in repeated_attacks else title({"name": column.name})
