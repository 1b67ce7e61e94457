"""Tables 1 and 2 as flat lines, for files; the HTML page lays out the same rows itself."""

from __future__ import annotations

from typing import Any

from unveil.app.db.job_states import Status
from unveil.app.evaluations.schemas import AvailabilityOut
from unveil.app.report.model import AttackColumn, Report, SchemeRow

TableRow = dict[str, Any]

VERDICT_MARKS = {"broken": "x", "leaks": "x", "no leak found": "o", "inconclusive": "?"}  # the paper's signs
_NOT_MEASURED, _UNDECIDED = "not measured", "?"
_RATE_FIELDS = {"": "top1", " ci_low": "ci_low", " ci_high": "ci_high"}


def table_1(report: Report) -> list[TableRow]:
    """Mean SSIM by scheme and attack: ours, its 95 % interval, the paper's."""
    columns = [*report.paper_columns, *report.further_columns]
    return [
        {"scheme": row.label, "ssim_mode": report.evaluation.settings["ssim_mode"]}
        | {name: value for column in columns for name, value in _ssim_columns(row, column).items()}
        for row in report.rows
    ]


def table_2(report: Report) -> list[TableRow]:
    """Robustness and availability (o, x, or ? where inconclusive), classification and cost: ours and the paper's."""
    lines = []
    for row in report.rows:
        line: TableRow = {"scheme": row.label}
        for column in report.paper_columns:
            cell = row.cell_for(column)
            line[column.label] = (
                VERDICT_MARKS[cell.result.verdict] if cell and cell.result else _missing_score_text(row, column)
            )
            line[f"{column.label} paper"] = _robustness_mark(row.paper_robust(column))
        worst_other = row.worst_cell(report.further_columns)
        line["worst other"] = VERDICT_MARKS[worst_other.result.verdict] if worst_other and worst_other.result else None
        line["worst other attack"] = worst_other.attack["name"] if worst_other else None
        line["verdict"] = row.verdict["verdict"] if row.verdict else None
        keys = row.key_space.result if row.key_space else None
        line["key_space_bits"] = keys.key_space_bits if keys else None
        utility_result = row.utility.result if row.utility else None
        own_values = (
            (
                *map(_availability_mark, (utility_result.training, utility_result.testing)),
                utility_result.classification or _UNDECIDED,
                utility_result.cost.level,
            )
            if utility_result
            else (_NOT_MEASURED if row.verdict else None,) * 4
        )
        paper = row.paper
        paper_values = (
            (_robustness_mark(paper.training), _robustness_mark(paper.testing), paper.classification, paper.cost)
            if paper
            else (None,) * 4
        )
        for name, own, paper_value in zip(
            ("training", "testing", "classification", "cost"), own_values, paper_values, strict=True
        ):
            line |= {name: own, f"{name} paper": paper_value}
        lines.append(line)
    return lines


def utility_table(report: Report) -> list[TableRow]:
    """Accuracies and costs; the schemes whose utility was measured."""
    lines = []
    for row in report.requested_rows:
        utility_result = row.utility.result if row.utility else None
        if utility_result is not None:
            rates = {"plain": utility_result.plain, "protected": utility_result.protected}
            figures = {
                f"{name}{end}": getattr(rate, field)
                for name, rate in rates.items()
                for end, field in _RATE_FIELDS.items()
            }
            lines.append(
                {"scheme": row.label, **figures}
                | {
                    "drop": utility_result.drop.points,
                    "drop ci_low": utility_result.drop.ci_low,
                    "drop ci_high": utility_result.drop.ci_high,
                }
                | {
                    "classification": utility_result.classification or _UNDECIDED,
                    "training": _availability_mark(utility_result.training),
                }
                | {"testing": _availability_mark(utility_result.testing), "cost": utility_result.cost.level}
                | {
                    "images_per_second": utility_result.cost.images_per_second,
                    "parameters": utility_result.cost.parameters,
                }
            )
    return lines


def _ssim_columns(row: SchemeRow, column: AttackColumn) -> TableRow:
    cell = row.cell_for(column)
    ssim = (cell.result.ssim if cell and cell.result else None) or {}
    name = column.label
    return {
        name: ssim.get("mean", _missing_score_text(row, column)),
        f"{name} ci_low": ssim.get("ci_low"),
        f"{name} ci_high": ssim.get("ci_high"),
        f"{name} paper": row.paper_ssim(column),
    }


def _missing_score_text(row: SchemeRow, column: AttackColumn) -> str | None:
    """What stands where there is no figure: N/A, the status, or nothing where it was not ordered."""
    cell = row.cell_for(column)
    if cell is None:
        return None
    return "N/A" if cell.status is Status.NOT_APPLICABLE else cell.status.value


def _availability_mark(availability: AvailabilityOut) -> str:
    return _robustness_mark(availability.available) or _UNDECIDED


def _robustness_mark(is_robust: bool | None) -> str | None:
    return None if is_robust is None else "o" if is_robust else "x"
