"""Tables 1 and 2 as flat rows, for JSON and CSV files."""

from __future__ import annotations

from typing import Any

from unveil.app.report.table import EvaluationTable, SchemeRow, TableCell
from unveil.models.core.cell_result import AccuracyRate, Availability

TableRow = dict[str, Any]

VERDICT_MARKS = {"broken": "x", "leaks": "x", "no leak found": "o", "inconclusive": "?"}  # the paper's signs
_NOT_MEASURED, _UNDECIDED = "not measured", "?"
_USES = ("training", "testing", "classification", "cost")


def table_1(table: EvaluationTable) -> list[TableRow]:
    """Mean SSIM by scheme and attack: ours, its 95 % interval, the paper's."""
    ssim_mode = table.evaluation.settings["ssim_mode"]
    lines = []
    for row in table.rows_with_paper:
        line: TableRow = {"scheme": row.label, "ssim_mode": ssim_mode}
        for column in (*table.paper_columns, *table.further_columns):
            cell, name = row.cell_for(column), column.label
            ssim = cell.result.ssim if cell.result else None
            line[name] = ssim.mean if ssim else _missing_text(cell)
            line[f"{name} ci_low"], line[f"{name} ci_high"] = (ssim.ci_low, ssim.ci_high) if ssim else (None, None)
            line[f"{name} paper"] = cell.paper_ssim
        lines.append(line)
    return lines


def table_2(table: EvaluationTable) -> list[TableRow]:
    """Robustness and availability (o, x, or ? if inconclusive), classification and cost: ours and the paper's."""
    lines = []
    for row in table.rows_with_paper:
        line: TableRow = {"scheme": row.label}
        for column in table.paper_columns:
            cell = row.cell_for(column)
            line[column.label] = VERDICT_MARKS[cell.verdict] if cell.verdict else _missing_text(cell)
            line[f"{column.label} paper"] = _mark(cell.paper_robust)
        worst = row.worst_cell(table.further_columns)
        line["worst other"] = VERDICT_MARKS[worst.verdict] if worst and worst.verdict else None
        line["worst other attack"] = worst.column.name if worst else None
        line["verdict"] = row.verdict.verdict if row.verdict else None
        keys = row.key_space.result if row.key_space else None
        line["key_space_bits"] = keys.key_space_bits if keys else None
        for name, own, paper in zip(_USES, _measured_uses(row), _paper_uses(row), strict=True):
            line |= {name: own, f"{name} paper": paper}
        lines.append(line)
    return lines


def utility_table(table: EvaluationTable) -> list[TableRow]:
    """Accuracies and costs of the schemes whose utility was measured."""
    lines = []
    for row in table.rows:
        result = row.utility.result if row.utility else None
        if result is not None:
            lines.append(
                {
                    "scheme": row.label,
                    **_rate_fields("plain", result.plain),
                    **_rate_fields("protected", result.protected),
                    "drop": result.drop.points,
                    "drop ci_low": result.drop.ci_low,
                    "drop ci_high": result.drop.ci_high,
                    "classification": result.classification or _UNDECIDED,
                    "training": _availability_mark(result.training),
                    "testing": _availability_mark(result.testing),
                    "cost": result.cost.level,
                    "images_per_second": result.cost.images_per_second,
                    "parameters": result.cost.parameters,
                }
            )
    return lines


def _measured_uses(row: SchemeRow) -> tuple[str | None, ...]:
    result = row.utility.result if row.utility else None
    if result is None:
        return (_NOT_MEASURED if row.verdict else None,) * len(_USES)
    availability = _availability_mark(result.training), _availability_mark(result.testing)
    return (*availability, result.classification or _UNDECIDED, result.cost.level)


def _paper_uses(row: SchemeRow) -> tuple[str | None, ...]:
    if row.paper is None:
        return (None,) * len(_USES)
    return _mark(row.paper.training), _mark(row.paper.testing), row.paper.classification, row.paper.cost


def _rate_fields(name: str, rate: AccuracyRate) -> TableRow:
    return {name: rate.top1, f"{name} ci_low": rate.ci_low, f"{name} ci_high": rate.ci_high}


def _missing_text(cell: TableCell) -> str | None:
    """N/A, or the status; None if the evaluation does not include the pair."""
    return None if cell.cell is None else cell.cell.status if cell.result else cell.empty_text


def _availability_mark(availability: Availability) -> str:
    return _mark(availability.available) or _UNDECIDED


def _mark(good: bool | None) -> str | None:
    return None if good is None else "o" if good else "x"
