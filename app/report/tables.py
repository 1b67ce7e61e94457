"""Tables 1 and 2 as flat lines, for files; the HTML page lays out the same rows itself."""

from __future__ import annotations

from typing import Any

from unveil.app.db.job_states import Status
from unveil.app.evaluations.schemas import AvailableOut
from unveil.app.report.model import Column, Report, Row

Line = dict[str, Any]

MARKS = {"broken": "x", "leaks": "x", "no leak found": "o", "inconclusive": "?"}  # the paper's signs
_NOT_MEASURED, _OPEN = "not measured", "?"
_RATE = {"": "top1", " ci_low": "ci_low", " ci_high": "ci_high"}


def table_1(report: Report) -> list[Line]:
    """Mean SSIM by scheme and attack: ours, its 95 % interval, the paper's."""
    columns = [*report.paper_columns, *report.further_columns]
    return [
        {"scheme": row.label, "ssim_mode": report.evaluation.settings["ssim_mode"]}
        | {name: value for column in columns for name, value in _ssim(row, column).items()}
        for row in report.rows
    ]


def table_2(report: Report) -> list[Line]:
    """Robustness and availability (o, x, or ? where inconclusive), classification and cost: ours and the paper's."""
    lines = []
    for row in report.rows:
        line: Line = {"scheme": row.label}
        for column in report.paper_columns:
            cell = row.under(column)
            line[column.label] = MARKS[cell.result.verdict] if cell and cell.result else _state(row, column)
            line[f"{column.label} paper"] = _mark(row.paper_robust(column))
        other = row.worst_of(report.further_columns)
        line["worst other"] = MARKS[other.result.verdict] if other and other.result else None
        line["worst other attack"] = other.attack["name"] if other else None
        line["verdict"] = row.verdict["verdict"] if row.verdict else None
        keys = row.key_space.result if row.key_space else None
        line["key_space_bits"] = keys.key_space_bits if keys else None
        used = row.utility.result if row.utility else None
        ours = (
            (*map(_tell, (used.training, used.testing)), used.classification or _OPEN, used.cost.level)
            if used
            else (_NOT_MEASURED if row.verdict else None,) * 4
        )
        paper = row.paper
        theirs = (
            (_mark(paper.training), _mark(paper.testing), paper.classification, paper.cost) if paper else (None,) * 4
        )
        for name, own, other_ in zip(("training", "testing", "classification", "cost"), ours, theirs, strict=True):
            line |= {name: own, f"{name} paper": other_}
        lines.append(line)
    return lines


def utility(report: Report) -> list[Line]:
    """Accuracies and costs; the schemes whose utility was measured."""
    lines = []
    for row in report.ordered:
        used = row.utility.result if row.utility else None
        if used is not None:
            rates = {"plain": used.plain, "protected": used.protected}
            figures = {
                f"{name}{end}": getattr(rate, field) for name, rate in rates.items() for end, field in _RATE.items()
            }
            lines.append(
                {"scheme": row.label, **figures}
                | {"drop": used.drop.points, "drop ci_low": used.drop.ci_low, "drop ci_high": used.drop.ci_high}
                | {"classification": used.classification or _OPEN, "training": _tell(used.training)}
                | {"testing": _tell(used.testing), "cost": used.cost.level}
                | {"images_per_second": used.cost.images_per_second, "parameters": used.cost.parameters}
            )
    return lines


def _ssim(row: Row, column: Column) -> Line:
    cell = row.under(column)
    ssim = (cell.result.ssim if cell and cell.result else None) or {}
    name = column.label
    return {
        name: ssim.get("mean", _state(row, column)),
        f"{name} ci_low": ssim.get("ci_low"),
        f"{name} ci_high": ssim.get("ci_high"),
        f"{name} paper": row.paper_ssim(column),
    }


def _state(row: Row, column: Column) -> str | None:
    """What stands where there is no figure: N/A, the status, or nothing where it was not ordered."""
    cell = row.under(column)
    if cell is None:
        return None
    return "N/A" if cell.status is Status.NOT_APPLICABLE else cell.status.value


def _tell(use: AvailableOut) -> str:
    return _mark(use.available) or _OPEN


def _mark(good: bool | None) -> str | None:
    return None if good is None else "o" if good else "x"
