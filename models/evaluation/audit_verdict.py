"""The verdict on an audited scheme, by the rules of the service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unveil.models.catalog import required_attacks
from unveil.models.core.threat_models import models_with
from unveil.models.core.verdict_rules.evidence import CellEvidence
from unveil.models.core.verdict_rules.rules import scheme_verdict
from unveil.models.core.verdict_rules.types import CellVerdict, EvaluatedScheme, SchemeVerdict
from unveil.models.evaluation.cell_store import AuditedCell
from unveil.models.evaluation.scheme_audit import Subject
from unveil.models.evaluation.scoring import ScoringOptions


def compute_verdict(
    subject: Subject, cells: Sequence[AuditedCell], options: ScoringOptions
) -> tuple[SchemeVerdict, tuple[CellVerdict | None, ...]]:
    """The verdict on the scheme, and on each cell."""
    scheme = subject.scheme
    draws_keys = scheme is not None and not scheme.trains
    evidence = [_evidence(cell) for cell in cells]
    if draws_keys:
        evidence = [replace(own, settings={**own.settings, "keys": options.keys}) for own in evidence]
    required = required_attacks(
        scheme,
        options.profile,
        originals=subject.data.test_originals is not None,
        public=subject.public is not None,
        draws_keys=draws_keys,
        oracle=subject.oracle is not None,
        key_per_image=subject.key_per_image,
    )
    known = scheme is not None
    material = models_with(
        public=known or subject.public is not None,
        pairs=known or subject.data.test_originals is not None,
        oracle=subject.oracle_allowed and (known or subject.oracle is not None),
    )
    unfit = {cell.attack.name for cell in cells if cell.status == "not_applicable"}
    evaluated = EvaluatedScheme(
        cells=tuple(evidence),
        required=tuple(each for each in required if each.threat_model in material and each.name not in unfit),
        material=material,
        profile=options.profile,
        natural_output=scheme is not None and scheme.natural_output,
    )
    return scheme_verdict(evaluated)


def _evidence(cell: AuditedCell) -> CellEvidence:
    if cell.outcome is not None and cell.outcome.result.evidence is not None:
        return cell.outcome.result.evidence
    settings = dict(vars(cell.attack.settings))
    return CellEvidence(cell.attack.name, cell.attack.threat_model.name, settings, cell.status, cell.reason)
