"""What a report says, whatever its format: rows and columns of the paper's tables, settings, how to repeat it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from unveil.app.db.job_states import TERMINAL
from unveil.app.evaluations import serializers
from unveil.app.evaluations.schemas import CellOut, EvaluationOut, UtilityOut
from unveil.app.report.labels import NOT_SETTINGS, dataset_label, default_settings, label, title
from unveil.models import catalog
from unveil.models.core.profiles import PROFILE_IMAGE_COUNTS

Points = Sequence[Sequence[float | None]]

# Rows and columns of the paper's tables, in its order.
PAPER_ROWS: tuple[Mapping[str, Any], ...] = (
    {"name": "pixelwise", "key_mode": "same"},
    {"name": "pixelwise", "key_mode": "different"},
    {"name": "tanaka"},
    {"name": "tn-model"},
    {"name": "tn-gan"},
)
PAPER_COLUMNS = ("fr", "itn", "gan")
KEY_SPACE_ATTACK = "brute-force"


@dataclass(frozen=True)
class AttackColumn:
    """An attack, as a column."""

    name: str
    label: str
    title: str
    threat_model: str


@dataclass(frozen=True)
class SchemeRow:
    """A scheme, as a line. Without `verdict` it was not ordered, and only the paper's values stand there."""

    label: str
    title: str
    paper: catalog.PaperRow | None
    profile: catalog.Profile
    cells: Sequence[CellOut] = ()
    verdict: Mapping[str, Any] | None = None
    utility: UtilityOut | None = None

    def cell_for(self, column: AttackColumn) -> CellOut | None:
        return next((cell for cell in self.cells if label(cell.attack, self.profile) == column.label), None)

    def paper_ssim(self, column: AttackColumn) -> float | None:
        return self.paper.ssim.get(column.name) if self.paper else None

    def paper_robust(self, column: AttackColumn) -> bool | None:
        return self.paper.robust.get(column.name) if self.paper else None

    def worst_cell(self, columns: Sequence[AttackColumn]) -> CellOut | None:
        """The cell that shows the most, of the finished ones among these."""
        cells = [cell for column in columns if (cell := self.cell_for(column)) is not None and cell.result is not None]
        return max(cells, key=_severity, default=None)

    @property
    def key_space(self) -> CellOut | None:
        return next((cell for cell in self.cells if cell.attack["name"] == KEY_SPACE_ATTACK), None)

    @property
    def verdict_cell(self) -> CellOut | None:
        """The cell that the verdict rests on."""
        if self.verdict is None or self.verdict["worst_attack"] is None:
            return None
        name = self.verdict["worst_attack"]
        return max((c for c in self.cells if c.result and c.attack["name"] == name), key=_severity, default=None)


@dataclass
class SampleTriple:
    """A stored triple: what its pictures measure; and they themselves, once they were asked for."""

    cell_id: str
    index: int
    ssim: float | None
    plain_md5: str | None  # tells plain images apart; None where there is none
    plain_size: int
    protected_size: int
    reconstructed_size: int
    plain: bytes | None = None
    protected: bytes = b""
    reconstructed: bytes = b""


@dataclass(frozen=True)
class Report:
    evaluation: EvaluationOut
    curves: Mapping[str, Mapping[str, Points]]  # by cell id
    samples: Mapping[str, Sequence[SampleTriple]]

    @property
    def profile(self) -> catalog.Profile:
        profile: catalog.Profile = self.evaluation.settings["profile"]
        return profile

    @property
    def dataset_label(self) -> str:
        return dataset_label(self.evaluation.settings)

    @property
    def is_finished(self) -> bool:
        return self.evaluation.status in TERMINAL

    @cached_property
    def rows(self) -> list[SchemeRow]:
        """The paper's five in its order, ordered or not, then all others."""
        requested = self.requested_rows
        paper = [catalog.make_scheme(*_split_name(entry)) for entry in PAPER_ROWS if entry["name"] in catalog.schemes()]
        rows: list[SchemeRow] = []
        for scheme in paper:
            matching_rows = [row for row in requested if row.paper is not None and row.paper == scheme.paper]
            entry = catalog.flatten_settings(scheme)
            rows += matching_rows or [SchemeRow(label(entry), title(entry), scheme.paper, self.profile)]
        return rows + [row for row in requested if row not in rows]

    @cached_property
    def requested_rows(self) -> list[SchemeRow]:
        """The schemes of the order, in its order."""
        cells: dict[str, list[CellOut]] = {}
        for cell in self.evaluation.cells:
            cells.setdefault(_entry_key(cell.scheme), []).append(cell)
        verdicts = {_entry_key(verdict.scheme): verdict.model_dump() for verdict in self.evaluation.verdicts}
        utility = {_entry_key(job.scheme): job for job in self.evaluation.utility}
        return [
            SchemeRow(
                label(own[0].scheme, self.profile),
                title(own[0].scheme, self.profile),
                serializers.get_paper_row(own[0].scheme),
                self.profile,
                own,
                verdicts[key],
                utility.get(key),
            )
            for key, own in cells.items()
        ]

    @cached_property
    def columns(self) -> list[AttackColumn]:
        """The attacks that make images, in the order of the evaluation."""
        column_by_label = {
            label(cell.attack, self.profile): AttackColumn(
                cell.attack["name"],
                label(cell.attack, self.profile),
                title(cell.attack, self.profile),
                cell.threat_model,
            )
            for cell in self.evaluation.cells
            if cell.attack["name"] != KEY_SPACE_ATTACK
        }
        return list(column_by_label.values())

    @property
    def paper_columns(self) -> list[AttackColumn]:
        """The paper's three, ordered or not."""
        columns = []
        for name in PAPER_COLUMNS:
            attack = catalog.make_attack(name, {})
            placeholder = AttackColumn(name, name, title({"name": name}), attack.threat_model.value)
            columns += [column for column in self.columns if column.name == name] or [placeholder]
        return columns

    @property
    def further_columns(self) -> list[AttackColumn]:
        return [column for column in self.columns if column.name not in PAPER_COLUMNS]

    def attacks_by_threat_model(self, model: str) -> list[str]:
        """Titles of the attacks of a threat model."""
        cells = (cell for cell in self.evaluation.cells if cell.threat_model == model)
        return list(dict.fromkeys(title(cell.attack, self.profile) for cell in cells))

    @property
    def scaled_down_settings(self) -> list[str]:
        """What the profile takes less of than the paper."""
        limits = PROFILE_IMAGE_COUNTS[self.profile]
        descriptions = (
            [f"at most {limits[0]:,} training and {limits[1]:,} test images"] if limits[0] and limits[1] else []
        )
        for entry in (*self.evaluation.settings["schemes"], *self.evaluation.settings["attacks"]):
            paper_settings = default_settings(entry["name"])
            own = {k: v for k, v in entry.items() if k in paper_settings and k not in (*NOT_SETTINGS, "key_mode")}
            differing = [f"{k} {json.dumps(v)}" for k, v in own.items() if v != paper_settings[k]]
            descriptions += [f"{title(entry, self.profile)} with {', '.join(differing)}"] if differing else []
        return descriptions

    @property
    def reimplementation_notes(self) -> list[str]:
        """What could not be read in any publication or program, and was rebuilt."""
        notes = []
        entries = (*self.evaluation.settings["schemes"], *self.evaluation.settings["attacks"])
        for name in dict.fromkeys(entry["name"] for entry in entries):
            cls = catalog.schemes().get(name) or catalog.attacks().get(name)
            if cls is None:  # uploads, and what only another version knows
                continue
            if "[R]" in cls.source:
                notes.append(
                    f"{cls.title} ({cls.source.replace('[R]', '').strip()}) follows its description, not its program."
                )
            meanings = {
                k: str(schema.get("description", ""))
                for k, schema in catalog.json_schema(cls.Settings)["properties"].items()
            }
            notes += [
                f"{cls.title}, {k}: {text.replace('[R]', '').strip()}." for k, text in meanings.items() if "[R]" in text
            ]
        return notes

    @property
    def request_body(self) -> dict[str, Any]:
        """What to POST to get the same evaluation again."""
        settings = dict(self.evaluation.settings)
        settings["attacks"] = [{k: v for k, v in a.items() if k != "added"} for a in settings["attacks"]]
        return settings

    @property
    def command(self) -> str:
        """The same as a command."""
        settings = self.request_body
        words = ["unveil", "evaluate"]
        for option in ("schemes", "attacks"):
            words += [f"--{option}", ",".join(_format_spec(entry, self.profile) for entry in settings[option])]
        for option in ("dataset", "public_dataset", "profile", "seed", "keys", "samples", "ssim_mode", "name"):
            if settings[option] is not None:
                words += [f"--{option.replace('_', '-')}", str(settings[option])]
        return shlex.join([*words, *(["--utility"] if settings["utility"] else [])])


def _severity(cell: CellOut) -> tuple[int, float]:
    """How bad a finished cell is: by its verdict, then by what can be seen."""
    assert cell.result is not None
    visibility = (cell.result.ssim or {}).get("mean", 0.0) + (cell.result.identification or {}).get("top1", 0.0)
    return -catalog.WORST_FIRST.index(cell.result.verdict), visibility


def _format_spec(entry: Mapping[str, Any], profile: catalog.Profile) -> str:
    """A scheme or attack as the command line takes it; what the profile fills in goes without saying."""
    defaults = default_settings(entry["name"], profile)
    differing = {k: v for k, v in entry.items() if k not in ("name", "dataset_name") and v != defaults.get(k)}
    return ":".join(
        [entry["name"], *(f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in differing.items())]
    )


def _entry_key(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, sort_keys=True)


def _split_name(entry: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    return entry["name"], {k: v for k, v in entry.items() if k != "name"}
