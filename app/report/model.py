"""A report, whatever its format: the tables, the stored samples, the settings, and how to repeat the evaluation."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from unveil.app.report.charts import Points
from unveil.app.report.evaluation import Cell, Evaluation
from unveil.app.report.labels import NOT_SETTINGS, dataset_label, default_settings, format_duration, title
from unveil.app.report.references import Reference, references_of
from unveil.app.report.table import EvaluationTable, TableCell
from unveil.models import catalog
from unveil.models.core.profiles import PROFILE_IMAGE_COUNTS
from unveil.models.core.verdict_rules.types import RULES_VERSION

_FIELDS_OF_A_RUN = ("seconds", "device", "hardware", "versions")


@dataclass
class SampleTriple:
    """A stored triple: its sizes, and the images once they are loaded."""

    cell_id: str
    index: int
    ssim: float | None
    plain_md5: str | None  # tells plain images apart; None without a plain image
    plain_size: int
    protected_size: int
    reconstructed_size: int
    plain: bytes | None = None
    protected: bytes = b""
    reconstructed: bytes = b""


@dataclass(frozen=True)
class Report:
    evaluation: Evaluation
    curves: Mapping[str, Mapping[str, Points]]  # by cell id
    samples: Mapping[str, Sequence[SampleTriple]]
    call: str | None = None  # that repeats an audit in a process of its own; None: an evaluation of the service
    auditor: str | None = None  # the account that measured; None: a process without the service
    without_images: bool = False  # left out of a copy that is shared

    @cached_property
    def table(self) -> EvaluationTable:
        return EvaluationTable(self.evaluation)

    @property
    def profile(self) -> catalog.Profile:
        return self.table.profile

    @property
    def dataset_label(self) -> str:
        return dataset_label(self.evaluation.settings)

    def samples_of(self, cell: TableCell | None) -> Sequence[SampleTriple]:
        return () if cell is None or cell.cell is None else self.samples.get(cell.cell.id, ())

    @property
    def attacks_by_threat_model(self) -> dict[str, list[str]]:
        """Titles of the attacks by the name of their threat model, the named ones first."""
        groups: dict[str, list[str]] = {model.name: [] for model in catalog.NAMED_THREAT_MODELS}
        for column in self.table.columns:
            groups.setdefault(column.threat_model, []).append(column.title)
        return {model: titles for model, titles in groups.items() if titles}

    @property
    def scaled_down_settings(self) -> list[str]:
        """How the profile falls short of the paper: fewer images, less training."""
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
        """The parts that were reconstructed, since no publication or program specifies them."""
        notes = []
        entries = (*self.evaluation.settings["schemes"], *self.evaluation.settings["attacks"])
        for name in dict.fromkeys(entry["name"] for entry in entries):
            cls = catalog.schemes().get(name) or catalog.attacks().get(name)
            if cls is None:  # an upload, or the name of another version
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
    def references(self) -> list[Reference]:
        entries = (*self.evaluation.settings["schemes"], *self.evaluation.settings["attacks"])
        return references_of(entry["name"] for entry in entries)

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What identifies this evaluation, as pairs of a term and its text."""
        evaluation = self.evaluation
        results = [cell.result for cell in evaluation.cells if cell.result]
        facts = [("Auditor", self.auditor)] if self.auditor else []
        facts.append(("Evaluation", evaluation.id))
        for term, hashes in (
            ("Dataset, SHA-256", {result.dataset_sha256 for result in results}),
            ("Originals, SHA-256", {result.originals_sha256 for result in results}),
        ):
            known = sorted(filter(None, hashes))
            facts += [(term, ", ".join(known))] if known else []
        versions = {"Unveil": "unveil", "torch": "torch", "Python": "python"}
        known_versions = [
            f"{name} {found}" for name, key in versions.items() if (found := evaluation.versions.get(key))
        ]
        if commit := evaluation.versions.get("commit"):
            known_versions[0] += f" (commit {commit})"
        facts.append(("Measured with", ", ".join([*known_versions, f"verdict rules {RULES_VERSION}"])))
        devices = ", ".join(sorted({result.device for result in results}))
        seconds = format_duration(sum(result.seconds for result in results))
        facts.append(("Computation", f"{seconds} in {len(results)} cells" + (f", on {devices}" if devices else "")))
        if hardware := sorted({result.hardware for result in results if result.hardware}):
            facts.append(("Hardware", "; ".join(hardware)))
        if evaluation.started_at and evaluation.finished_at and evaluation.finished_at > evaluation.started_at:
            duration = (evaluation.finished_at - evaluation.started_at).total_seconds()
            facts.append(("Duration", format_duration(duration)))
        return [*facts, ("Results, SHA-256", results_sha256(evaluation.cells))]

    @property
    def plugin_origins(self) -> list[str]:
        """The exact code of every plug-in scheme and attack, which a repetition needs."""
        lines: dict[str, None] = {}
        for cell in self.evaluation.cells:
            for kind, entry in (("scheme", cell.scheme), ("attack", cell.attack)):
                origin = (cell.origin or {}).get(kind)
                if origin is not None and "/" in entry["name"]:
                    code = " ".join(filter(None, (origin["distribution"], origin["version"])))
                    lines[f"Plug-in {entry['name']}: {code}, SHA-256 of its source {origin['source_sha256']}"] = None
        return list(lines)

    @property
    def request_body(self) -> dict[str, Any]:
        """The body of a POST that creates the same evaluation again."""
        settings = dict(self.evaluation.settings)
        settings["attacks"] = [{k: v for k, v in a.items() if k != "added"} for a in settings["attacks"]]
        return settings

    @property
    def command(self) -> str:
        """The command that creates the same evaluation again, or the call that repeats the audit."""
        return evaluate_command(self.evaluation.settings) if self.call is None else self.call


def results_sha256(cells: Sequence[Cell]) -> str:
    """Equal for equal figures: without times, devices and versions."""
    figures = [
        [cell.scheme, cell.attack, cell.status, cell.result and _without_run(cell.result.to_json())] for cell in cells
    ]
    return hashlib.sha256(json.dumps(figures, sort_keys=True).encode()).hexdigest()


def _without_run(value: Any) -> Any:
    """A result without the fields that differ between runs with equal figures."""
    if isinstance(value, Mapping):
        return {name: _without_run(inner) for name, inner in value.items() if name not in _FIELDS_OF_A_RUN}
    return [_without_run(inner) for inner in value] if isinstance(value, list) else value


def evaluate_command(settings: Mapping[str, Any]) -> str:
    """The `unveil evaluate` that creates an evaluation with these settings."""
    words = ["unveil", "evaluate"]
    for option in ("schemes", "attacks"):
        words += [f"--{option}", ",".join(_format_spec(entry, settings["profile"]) for entry in settings[option])]
    for option in ("dataset", "public_dataset", "profile", "seed", "keys", "samples", "ssim_mode", "name"):
        if settings[option] is not None:
            words += [f"--{option.replace('_', '-')}", str(settings[option])]
    return shlex.join([*words, *(["--utility"] if settings["utility"] else [])])


def _format_spec(entry: Mapping[str, Any], profile: catalog.Profile) -> str:
    """A scheme or attack as the command line takes it, without the settings that the profile fills in."""
    defaults = default_settings(entry["name"], profile)
    not_settings = ("name", "dataset_name", "added")
    differing = {k: v for k, v in entry.items() if k not in not_settings and v != defaults.get(k)}
    return ":".join(
        [entry["name"], *(f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in differing.items())]
    )
