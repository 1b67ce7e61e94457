"""What an evaluation adds to the board: for each scheme, one entry for each aspect of its row, with a sort key.

The board shows the entry with the lowest sort key of each aspect. Pure functions of the report's view model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from unveil.app.report import narrative
from unveil.app.report.board import BoardBreak, BoardUtility, ThreatModelFigures
from unveil.app.report.evaluation import Entry, Evaluation, EvaluationVerdict
from unveil.app.report.labels import label, title
from unveil.app.report.model import evaluate_command
from unveil.app.report.table import EvaluationTable, SchemeRow, TableCell
from unveil.models import catalog
from unveil.models.core.profiles import PROFILES, Profile
from unveil.models.core.verdict_rules.types import RULES_VERSION, THREAT_MODELS, Verdict

VERDICT, CHEAPEST_BREAK, UTILITY, KEY_SPACE = "verdict", "cheapest break", "utility", "key space"
THREAT_MODEL_PREFIX = "threat model: "
# Verdicts cover no other threat models.
ASPECTS = (VERDICT, CHEAPEST_BREAK, UTILITY, KEY_SPACE, *(THREAT_MODEL_PREFIX + model for model in THREAT_MODELS))

_FINDING_ORDER = {"broken": 0, "leaks": 1}
_WITHOUT_FINDING = 2


@dataclass(frozen=True)
class BoardEntry:
    """One aspect of a scheme's row. sort_key: compared element by element; the board shows the lowest."""

    dataset: str
    dataset_sha256: str
    position: int  # of the scheme in its evaluation
    scheme_key: str
    aspect: str
    sort_key: tuple[float, ...]
    value: dict[str, Any]


def build_entries(evaluation: Evaluation) -> list[BoardEntry]:
    """Of a finished evaluation.

    Schemes without a result, with a verdict of earlier rules, or that lack a trained part, have none.
    """
    entries = []
    for position, row in enumerate(EvaluationTable(evaluation).rows):
        dataset_sha256 = next(filter(None, (cell.result.dataset_sha256 for cell in row.cells if cell.result)), None)
        verdict = row.verdict
        if verdict is None or verdict.rules_version != RULES_VERSION or dataset_sha256 is None:
            continue
        known = catalog.schemes().get(str(verdict.scheme.get("name")))
        if known is not None and known.missing_part is not None:
            continue
        scheme = {name: value for name, value in verdict.scheme.items() if name != "key_id"}
        dataset = scheme.get("dataset_name") or evaluation.settings.get("dataset_name")
        key = json.dumps(scheme, sort_keys=True)
        entries += [
            BoardEntry(str(dataset or evaluation.settings["dataset"]), dataset_sha256, position, key, *aspect)
            for aspect in _aspects(evaluation, row, verdict, scheme)
        ]
    return entries


def _name_with_profile(name: Callable[[Entry, Profile], str], scheme: Entry, profile: Profile) -> str:
    """`tn-gan, quick` for the settings that the profile gives a scheme; other settings are named one by one."""
    short = name(scheme, profile)
    return short if short == name(scheme, "paper") else f"{short}, {profile}"


def _aspects(
    evaluation: Evaluation, row: SchemeRow, verdict: EvaluationVerdict, scheme: Entry
) -> Iterator[tuple[str, tuple[float, ...], dict[str, Any]]]:
    profile = evaluation.settings["profile"]
    finished = [cell for cell in row.cells if cell.result is not None]
    worst = row.verdict_cell or _worst_cell(finished)
    figures = _figures(evaluation, worst, verdict.verdict, verdict.because)
    leaks = [cell.leak for cell in finished if cell.leak is not None]
    own = {
        "scheme": dict(scheme),
        "title": _name_with_profile(title, scheme, profile),
        "label": _name_with_profile(label, scheme, profile),
        "badge": narrative.badge(verdict),
        "severity": None if verdict.severity is None else verdict.severity.to_json(),
        "leak": max(leaks, default=None),
        "origin": ((worst.cell.origin if worst and worst.cell else None) or {}).get("scheme"),
        "versions": dict(evaluation.versions),
        "seed": evaluation.settings["seed"],
        "command": evaluate_command({**evaluation.settings, "schemes": [scheme]}),
    }
    yield VERDICT, _sort_key(verdict.verdict, profile, worst), {**own, "figures": figures.to_json()}

    for model, under in verdict.by_threat_model.items():
        cells = [cell for cell in finished if cell.column.threat_model == model]
        if under.worst_attack is not None:
            cells = [cell for cell in cells if cell.column.name == under.worst_attack]
        worst = _worst_cell(cells)
        value = _figures(evaluation, worst, under.verdict, under.because).to_json()
        yield THREAT_MODEL_PREFIX + model, _sort_key(under.verdict, profile, worst), value

    cheapest = verdict.cheapest_break
    broken = _worst_cell([cell for cell in finished if cheapest and cell.column.name == cheapest.attack])
    if cheapest is not None and broken is not None and broken.cell is not None:
        model = broken.column.threat_model
        shown = BoardBreak(**vars(cheapest), threat_model=model, evaluation=evaluation.id, cell=broken.cell.id)
        order = THREAT_MODELS.index(model) if model in THREAT_MODELS else len(THREAT_MODELS)
        yield CHEAPEST_BREAK, (order, *narrative.break_cost(cheapest)), shown.to_json()

    strongest_first = (-float(PROFILES.index(profile)),)  # equal ranks: the newest evaluation comes first
    utility = row.utility.result if row.utility else None
    if utility is not None:
        accuracy = BoardUtility(
            plain=utility.plain.top1,
            protected=utility.protected.top1,
            drop=utility.drop.points,
            evaluation=evaluation.id,
        )
        cost = {"images_per_second": utility.cost.images_per_second}
        yield UTILITY, strongest_first, {"utility": accuracy.to_json(), "cost": cost}

    keys = row.key_space.result if row.key_space else None
    if keys is not None:
        bits = {"key_space_bits": keys.key_space_bits, "effective_bits": keys.effective_bits}
        yield KEY_SPACE, strongest_first, bits


def _worst_cell(cells: Sequence[TableCell]) -> TableCell | None:
    """The finished cell that shows the most."""
    return min(cells, key=lambda cell: cell.result.severity_rank if cell.result else (), default=None)


def _figures(evaluation: Evaluation, cell: TableCell | None, verdict: Verdict, because: str) -> ThreatModelFigures:
    result = cell.result if cell else None
    numbers = result.numbers if result else {}
    counts = {name: int(numbers[name]) for name in ("ciphertexts", "pairs", "queries") if name in numbers}
    return ThreatModelFigures(
        verdict=verdict,
        because=because,
        attack=cell.column.name if cell else None,
        profile=evaluation.settings["profile"],
        ssim=result.ssim.mean if result and result.ssim else None,
        vif=result.vif.mean if result and result.vif else None,
        identification=result.identification.top1 if result and result.identification else None,
        linkage=result.linkage.top1 if result and result.linkage else None,
        **counts,
        seconds=result.seconds if result else None,
        evaluation=evaluation.id,
        cell=cell.cell.id if cell and cell.cell else None,
    )


def _sort_key(verdict: Verdict, profile: catalog.Profile, worst: TableCell | None) -> tuple[float, ...]:
    """A finding of any evaluation comes first. Without a finding the strongest profile, then a conclusive verdict."""
    no_key, leakage = worst.result.severity_rank[1:] if worst and worst.result else (True, 1.0)
    severity = (float(no_key), leakage)
    if verdict in _FINDING_ORDER:
        return (_FINDING_ORDER[verdict], 0.0, 0.0, *severity)
    return (_WITHOUT_FINDING, -PROFILES.index(profile), float(verdict == "inconclusive"), *severity)
