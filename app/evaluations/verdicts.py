"""Verdicts on the schemes of an evaluation, by the rules of `models.core.verdict_rules`. Pure functions of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from sqlalchemy import Row

from unveil.app.db.job_states import ACTIVE, Status
from unveil.app.db.tables import Cell, Evaluation
from unveil.app.report.evaluation import Entry, EvaluationVerdict
from unveil.app.report.labels import NOT_SETTINGS, paper_verdicts
from unveil.models import catalog
from unveil.models.core.cell_result import CellResult
from unveil.models.core.threat_models import models_with
from unveil.models.core.verdict_rules.evidence import CellEvidence, CellStatus
from unveil.models.core.verdict_rules.rules import scheme_verdict
from unveil.models.core.verdict_rules.types import RULES_VERSION, EvaluatedScheme, SchemeVerdict
from unveil.models.core.version import __version__

CellRow = Cell | Row[Any]  # of `queries.list_cells` or of `queries.list_cell_summaries`
# What is kept is computed again under other rules, or by another version, whose catalog may differ.
COMPUTED_BY = f"rules {RULES_VERSION}, unveil {__version__}"
Results = Mapping[str, CellResult]  # by cell id


def load_verdicts(evaluation: Evaluation) -> list[EvaluationVerdict] | None:
    """The verdicts that `store_verdicts` kept; None if there are none, or of other rules or another catalog."""
    stored = evaluation.verdicts
    if stored is None or stored["computed_by"] != COMPUTED_BY:
        return None
    return [EvaluationVerdict.from_json(verdict) for verdict in stored["items"]]


def store_verdicts(evaluation: Evaluation, verdicts: Sequence[EvaluationVerdict]) -> None:
    """Keep the verdicts of an ended evaluation: computing them reads the evidence of all cells."""
    evaluation.verdicts = {"computed_by": COMPUTED_BY, "items": [verdict.to_json() for verdict in verdicts]}


def compute_verdicts(settings: Mapping[str, Any], cells: Sequence[CellRow]) -> tuple[list[EvaluationVerdict], Results]:
    """A verdict for each scheme, in the order of the evaluation, and the results with the verdicts of the cells."""
    by_scheme: dict[str, list[CellRow]] = {}
    for cell in cells:
        by_scheme.setdefault(repr(sorted(cell.scheme.items())), []).append(cell)
    results = {cell.id: CellResult.from_json(cell.result) for cell in cells if cell.result is not None}
    verdicts = []
    for own in by_scheme.values():
        entry = own[0].scheme
        evaluated = _evaluated_scheme(settings, entry, own, results)
        if evaluated is None:
            verdict = _earlier_verdict(own, results)
        else:
            verdict, by_cell = scheme_verdict(evaluated)
            for cell, found in zip(own, by_cell, strict=True):
                if found is not None:
                    results[cell.id] = results[cell.id].with_verdict(found)
        verdicts.append(EvaluationVerdict(scheme=entry, paper=paper_verdicts(entry), **vars(verdict)))
    return verdicts, results


def _evaluated_scheme(
    settings: Mapping[str, Any], entry: Entry, cells: Sequence[CellRow], results: Results
) -> EvaluatedScheme | None:
    """None if a result was stored without evidence, or by a version that knows other schemes and evidence."""
    scheme = None
    if entry["name"] != catalog.EXTERNAL:
        try:
            scheme = catalog.make_scheme(entry["name"], {k: v for k, v in entry.items() if k not in NOT_SETTINGS})
        except (catalog.UnknownName, catalog.ParameterError):
            return None
    draws_keys = scheme is not None and not scheme.trains and "key_id" not in entry
    evidence = []
    for cell in cells:
        own = _cell_evidence(cell, results.get(cell.id))
        if own is None or not own.is_current:
            return None
        evidence.append(replace(own, settings={**own.settings, "keys": settings["keys"]}) if draws_keys else own)
    public = settings["public_dataset"] is not None
    # With originals, known plaintext is always planned.
    originals = any(
        cell.threat_model == catalog.ThreatModel.KNOWN_PLAINTEXT.name and _was_planned_to_run(cell) for cell in cells
    )
    required = catalog.required_attacks(
        scheme, settings["profile"], originals=originals, public=public, draws_keys=draws_keys
    )
    unfit = {cell.attack["name"] for cell in cells if _turned_out_not_to_apply(cell)}
    return EvaluatedScheme(
        cells=tuple(evidence),
        required=tuple(attack for attack in required if attack.name not in unfit),
        material=models_with(
            public=scheme is not None or public, pairs=scheme is not None or originals, oracle=scheme is not None
        ),
        profile=settings["profile"],
        natural_output=scheme is not None and scheme.natural_output,
    )


def _cell_evidence(cell: CellRow, result: CellResult | None) -> CellEvidence | None:
    if result is not None:
        return result.evidence
    settings = {name: value for name, value in cell.attack.items() if name != "name"}
    reason = "" if cell.error is None else cell.error["detail"]
    return CellEvidence(cell.attack["name"], cell.threat_model, settings, cast("CellStatus", cell.status), reason)


def _was_planned_to_run(cell: CellRow) -> bool:
    return cell.status != Status.NOT_APPLICABLE or cell.attempt > 0


def _turned_out_not_to_apply(cell: CellRow) -> bool:
    """Whether the attack ran and found that it does not fit, such as a key that no pair is consistent with."""
    code = None if cell.error is None else cell.error["code"]
    return cell.status == Status.NOT_APPLICABLE and cell.attempt > 0 and code == "not_applicable"


def _earlier_verdict(cells: Sequence[CellRow], results: Results) -> SchemeVerdict:
    """The worst verdict that the version stored which ran the cells."""
    finished = [(cell.attack["name"], results[cell.id]) for cell in cells if cell.id in results]
    if not finished:
        return SchemeVerdict(verdict="inconclusive", because="no attack on it finished")
    attack, result = min(finished, key=lambda each: each[1].severity_rank)
    incomplete = any(cell.status in (*ACTIVE, Status.FAILED, Status.CANCELLED) for cell in cells)
    if result.verdict == "no leak found" and incomplete:
        return SchemeVerdict(verdict="inconclusive", because="some attacks have not finished")
    because = f"earlier rules, by {attack}; run the evaluation again for a verdict of the current rules"
    return SchemeVerdict(verdict=result.verdict, because=because, worst_attack=attack)
