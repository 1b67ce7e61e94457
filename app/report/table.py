"""The tables of an evaluation: schemes as rows, attacks as columns. HTML, Markdown, files and terminal render these.

Labels, figures and the reasons for empty cells are decided here and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from unveil.app.db.job_states import ACTIVE, TERMINAL, Status
from unveil.app.report.evaluation import Cell, Entry, Evaluation, EvaluationVerdict, UtilityJob
from unveil.app.report.labels import format_percent, label, paper_row, title
from unveil.models import catalog
from unveil.models.core.cell_result import CellResult
from unveil.models.core.verdict_rules.types import Verdict

KEY_SPACE_ATTACK = "brute-force"
NOT_APPLICABLE, NOT_SCORED, NOT_REQUESTED = "N/A", "not scored", "–"


@dataclass(frozen=True)
class AttackColumn:
    """label: the name with the settings that differ from the profile's, for files. title: the same for people.

    requested: False if the profile added the attack.
    """

    name: str
    label: str
    title: str
    threat_model: str
    requested: bool = True


@dataclass(frozen=True)
class TableCell:
    """A scheme under an attack. `cell` is None if the evaluation does not include the pair."""

    column: AttackColumn
    cell: Cell | None
    paper_ssim: float | None = None
    paper_robust: bool | None = None

    @property
    def result(self) -> CellResult | None:
        return None if self.cell is None else self.cell.result

    @property
    def verdict(self) -> Verdict | None:
        return None if self.result is None else self.result.verdict

    @property
    def figure(self) -> str | None:
        """Mean SSIM, the share of linked images, or the number of keys. None: see `empty_text` and `empty_reason`."""
        if self.result is None:
            return None
        if self.result.ssim is not None:
            return f"{self.result.ssim.mean:.3f}"
        if self.result.linkage is not None:
            return f"{format_percent(self.result.linkage.top1)} linked"
        return None if self.result.key_space_bits is None else f"2^{self.result.key_space_bits:.0f}"

    @property
    def leak(self) -> float | None:
        """How much is visible, 0 to 1: the worse of SSIM and of identification above chance; 1 for an exact key."""
        result = self.result
        if result is None or result.ssim is None:
            return None
        identified = result.identification
        above_chance = 0.0
        if identified is not None and identified.chance < 1:
            above_chance = (identified.top1 - identified.chance) / (1 - identified.chance)
        return min(1.0, max(0.0, result.ssim.mean, above_chance, float(result.found_exact_key)))

    @property
    def empty_text(self) -> str:
        """Stands in the table instead of a figure."""
        if self.cell is None:
            return NOT_REQUESTED
        return status_text(self.cell) if self.result is None else NOT_SCORED

    @property
    def empty_reasons(self) -> list[str]:
        """Why an ended cell has no figure."""
        if self.cell is None or self.figure is not None:
            return []
        return job_reasons(self.cell) if self.result is None else self.result.notes

    @property
    def empty_reason(self) -> str | None:
        return "; ".join(self.empty_reasons) or None


@dataclass(frozen=True, eq=False)
class SchemeRow:
    """Without `verdict` the evaluation does not include the scheme: the row holds the paper's values only."""

    label: str
    title: str
    paper: catalog.PaperRow | None
    cells: Sequence[TableCell] = ()
    verdict: EvaluationVerdict | None = None
    utility: UtilityJob | None = None

    def cell_for(self, column: AttackColumn) -> TableCell:
        found = next((each for each in self.cells if each.column == column), None)
        return found or _table_cell(column, None, self.paper)

    def worst_cell(self, columns: Sequence[AttackColumn]) -> TableCell | None:
        """The finished cell that shows the most."""
        finished = [(each.result.severity_rank, each) for each in self.cells if each.column in columns and each.result]
        return min(finished, key=lambda ranked: ranked[0])[1] if finished else None

    @property
    def key_space(self) -> TableCell | None:
        return next((each for each in self.cells if each.column.name == KEY_SPACE_ATTACK), None)

    @property
    def verdict_cell(self) -> TableCell | None:
        """The cell that the verdict rests on."""
        worst_attack = self.verdict.worst_attack if self.verdict else None
        return self.worst_cell([each.column for each in self.cells if each.column.name == worst_attack])

    @property
    def is_pending(self) -> bool:
        """Whether the verdict is open because cells have not ended."""
        active = any(each.cell is not None and each.cell.status in ACTIVE for each in self.cells)
        return active and self.verdict is not None and self.verdict.verdict == "inconclusive"


@dataclass(frozen=True)
class EmptyReason:
    """A reason for empty cells, once for all that share it. schemes: empty if the reason holds for every scheme."""

    text: str  # what stands in the cells
    reason: str
    attacks: Sequence[AttackColumn]
    schemes: Sequence[SchemeRow]


@dataclass(frozen=True)
class EvaluationTable:
    evaluation: Evaluation

    @property
    def profile(self) -> catalog.Profile:
        profile: catalog.Profile = self.evaluation.settings["profile"]
        return profile

    @property
    def is_finished(self) -> bool:
        return self.evaluation.status in TERMINAL

    @cached_property
    def columns(self) -> list[AttackColumn]:
        """The attacks, in the order of the evaluation, but the unattacked ciphertexts first."""
        columns = dict.fromkeys(cell.column for row in self.rows for cell in row.cells)
        return sorted(columns, key=lambda column: column.name != "none")

    @property
    def image_columns(self) -> list[AttackColumn]:
        """The attacks that reconstruct images."""
        return [column for column in self.columns if column.name != KEY_SPACE_ATTACK]

    @property
    def paper_columns(self) -> list[AttackColumn]:
        """The attacks of the paper's tables, requested or not."""
        columns: list[AttackColumn] = []
        for name in paper_attacks():
            missing = AttackColumn(name, name, title({"name": name}), catalog.attacks()[name].threat_model.name)
            columns += [column for column in self.columns if column.name == name] or [missing]
        return columns

    @property
    def further_columns(self) -> list[AttackColumn]:
        """The attacks that reconstruct images and are not in the paper's tables."""
        return [column for column in self.image_columns if column.name not in paper_attacks()]

    @cached_property
    def rows(self) -> list[SchemeRow]:
        """The schemes of the evaluation, in its order."""
        cells: dict[str, list[Cell]] = {}
        for cell in self.evaluation.cells:
            cells.setdefault(_entry_key(cell.scheme), []).append(cell)
        verdicts = {_entry_key(verdict.scheme): verdict for verdict in self.evaluation.verdicts}
        utility = {_entry_key(job.scheme): job for job in self.evaluation.utility}
        rows = []
        for key, own in cells.items():
            paper = paper_row(own[0].scheme)
            own_cells = [_table_cell(self._column(cell), cell, paper) for cell in own]
            names = label(own[0].scheme, self.profile), title(own[0].scheme, self.profile)
            rows.append(SchemeRow(*names, paper, own_cells, verdicts[key], utility.get(key)))
        return rows

    @cached_property
    def rows_with_paper(self) -> list[SchemeRow]:
        """The rows of the paper's tables in its order, requested or not, then all others."""
        rows: list[SchemeRow] = []
        for scheme in paper_schemes():
            entry = catalog.flatten_settings(scheme)
            missing = SchemeRow(label(entry), title(entry), scheme.paper)
            rows += [row for row in self.rows if row.paper is not None and row.paper == scheme.paper] or [missing]
        return rows + [row for row in self.rows if row not in rows]

    @cached_property
    def empty_reasons(self) -> list[EmptyReason]:
        """Why cells and utility jobs have no figures: each reason once."""
        found: dict[tuple[str, str], list[tuple[AttackColumn, SchemeRow]]] = {}
        for row in self.rows:
            for text, reason, attack in _empty_places(row):
                found.setdefault((text, reason), []).append(
                    (AttackColumn(attack, attack, title({"name": attack}), ""), row)
                )
        reasons = []
        for (text, reason), places in found.items():
            attacks, rows = dict.fromkeys(attack for attack, _ in places), dict.fromkeys(row for _, row in places)
            reasons.append(EmptyReason(text, reason, [*attacks], [] if len(rows) == len(self.rows) else [*rows]))
        return reasons

    @cached_property
    def cell_titles(self) -> dict[str, str]:
        """`FR-Attack on Tanaka's scheme`, by cell id."""
        return {
            cell.cell.id: f"{cell.column.title} on {row.title}" for row in self.rows for cell in row.cells if cell.cell
        }

    def _column(self, cell: Cell) -> AttackColumn:
        attack = cell.attack
        names = label(attack, self.profile), title(attack, self.profile)
        return AttackColumn(attack["name"], *names, cell.threat_model, cell.requested)


def status_text(job: Cell | UtilityJob) -> str:
    """Stands in a table for a job without a result."""
    return NOT_APPLICABLE if job.status == Status.NOT_APPLICABLE else job.status


def job_reasons(job: Cell | UtilityJob) -> list[str]:
    """Why a job ended without a result."""
    if job.status == Status.FAILED and job.error is not None:
        return [job.error.detail]
    return [job.reason] if job.reason else []


def paper_attacks() -> list[str]:
    """The columns of the paper's tables, in its order."""
    named = [cls for cls in catalog.attacks().values() if cls.paper_name]
    return [cls.name for cls in sorted(named, key=lambda cls: cls.paper_position)]


@cache
def paper_schemes() -> list[catalog.Scheme[Any, Any]]:
    """The rows of the paper's tables, in its order: of each scheme, every variant that has values of its own."""
    named = [cls for cls in catalog.schemes().values() if cls.paper_name]
    schemes: list[catalog.Scheme[Any, Any]] = []
    for cls in sorted(named, key=lambda cls: cls.paper_position):
        for variant in catalog.describe_scheme(cls.name)["variants"]:
            scheme = catalog.make_scheme(cls.name, variant["params"])
            if scheme.paper is not None and all(scheme.paper != other.paper for other in schemes):
                schemes.append(scheme)
    return schemes


def _empty_places(row: SchemeRow) -> Iterator[tuple[str, str, str]]:
    """(what stands in the cell, the reason, the attack's name) of each cell without a figure."""
    for cell in row.cells:
        for reason in cell.empty_reasons:
            yield cell.empty_text, reason, cell.column.name
    if row.utility is not None and row.utility.result is None:
        for reason in job_reasons(row.utility):
            yield status_text(row.utility), reason, catalog.UTILITY


def _table_cell(column: AttackColumn, cell: Cell | None, paper: catalog.PaperRow | None) -> TableCell:
    if paper is None:
        return TableCell(column, cell)
    return TableCell(column, cell, paper.ssim.get(column.name), paper.robust.get(column.name))


def _entry_key(entry: Entry) -> str:
    return json.dumps(entry, sort_keys=True)
