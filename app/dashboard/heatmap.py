"""An evaluation as a table: schemes down, attacks across, the more visible the hotter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unveil.app.db.job_states import ACTIVE, Status
from unveil.app.evaluations.schemas import CellOut, EvaluationOut, SampleOut
from unveil.app.report import model, narrative
from unveil.app.report.labels import label, title
from unveil.models import catalog

COLOR_STEPS = 10


@dataclass(frozen=True)
class HeatmapColumn:
    title: str
    name: str
    threat_model: str


@dataclass(frozen=True)
class HeatmapRow:
    """A scheme: what is to be said of it, and its cells below the columns."""

    row: model.SchemeRow
    cells: list[CellOut | None]

    @property
    def verdict(self) -> str:
        """`pending` while there is nothing to be said yet."""
        assert self.row.verdict is not None
        word: str = self.row.verdict["verdict"]
        return "pending" if word == "inconclusive" and any(cell.status in ACTIVE for cell in self.row.cells) else word

    @property
    def sentence(self) -> str:
        return "Its attacks have not finished." if self.verdict == "pending" else narrative.describe_verdict(self.row)

    @property
    def highlight(self) -> tuple[CellOut, SampleOut] | None:
        """The cell that the verdict rests on, and its best picture."""
        worst = self.row.verdict_cell
        return (worst, sort_by_strength(worst.samples)[0]) if worst is not None and worst.samples else None


@dataclass(frozen=True)
class MissingScoreReason:
    """Why some cells have no figures."""

    status: Status
    attacks: list[str]
    schemes: list[str]  # none where it holds for all
    text: str


@dataclass(frozen=True)
class Heatmap:
    columns: list[HeatmapColumn]
    rows: list[HeatmapRow]
    reasons: list[MissingScoreReason]


def sort_by_strength(samples: Sequence[SampleOut]) -> list[SampleOut]:
    """By SSIM; equal ones, as of a key that was found, as they come."""
    return sorted(samples, key=lambda sample: sample.ssim or 0.0, reverse=True)


def build_heatmap(evaluation: EvaluationOut) -> Heatmap:
    profile: catalog.Profile = evaluation.settings["profile"]
    columns = {
        label(cell.attack, profile): HeatmapColumn(title(cell.attack, profile), cell.attack["name"], cell.threat_model)
        for cell in evaluation.cells
    }
    rows = []
    for row in model.Report(evaluation, {}, {}).requested_rows:
        by_attack = {label(cell.attack, profile): cell for cell in row.cells}
        rows.append(HeatmapRow(row, [by_attack.get(attack) for attack in columns]))
    return Heatmap(list(columns.values()), rows, _missing_score_reasons(evaluation))


def _missing_score_reasons(evaluation: EvaluationOut) -> list[MissingScoreReason]:
    """Each once."""
    profile: catalog.Profile = evaluation.settings["profile"]
    cells_by_reason: dict[tuple[Status, str], list[CellOut]] = {}
    for cell in evaluation.cells:
        text = cell.error.detail if cell.error and cell.status is Status.FAILED else cell.reason
        if text:
            cells_by_reason.setdefault((cell.status, text), []).append(cell)
    all_schemes = {title(cell.scheme, profile) for cell in evaluation.cells}
    reasons = []
    for (status, text), cells in cells_by_reason.items():
        attacks, schemes = (
            list(dict.fromkeys(title(entry, profile) for entry in entries))
            for entries in ([{"name": cell.attack["name"]} for cell in cells], [cell.scheme for cell in cells])
        )
        reasons.append(MissingScoreReason(status, attacks, [] if set(schemes) == all_schemes else schemes, text))
    return reasons


def css_class(cell: CellOut | None) -> str:
    """The CSS class of a cell: heat-0 (nothing to see) to heat-10 (the plain image), or its status."""
    if cell is None:
        return "plain"
    if cell.result is None:
        return f"plain status-{cell.status.value}"
    if cell.result.ssim is None:
        return "figure"
    return f"heat-{round(COLOR_STEPS * min(1.0, max(0.0, cell.result.ssim['mean'])))}"


def cell_title(cell: CellOut, profile: catalog.Profile) -> str:
    return f"{title(cell.attack, profile)} on {title(cell.scheme, profile)}"
