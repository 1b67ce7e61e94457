"""The result of `unveil.audit`: shows itself in notebooks and terminals, converts to pandas, saves reports."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from unveil.app.db.job_states import Status
from unveil.app.report import formats, notebook
from unveil.app.report.evaluation import Cell, Evaluation, EvaluationVerdict, JobError, Progress
from unveil.app.report.formats import Format
from unveil.app.report.frames import result_figures, to_frame
from unveil.app.report.labels import paper_verdicts
from unveil.app.report.latex import to_latex
from unveil.app.report.model import Report, SampleTriple, results_sha256
from unveil.app.report.plot import Plot, plot_ssim
from unveil.app.report.table import EvaluationTable
from unveil.models import catalog
from unveil.models.core.cell_result import CellResult
from unveil.models.core.hardware import describe_hardware
from unveil.models.core.images import Images, to_png
from unveil.models.core.verdict_rules.types import CellVerdict, SchemeVerdict
from unveil.models.core.version import package_versions
from unveil.models.evaluation.audit_verdict import compute_verdict
from unveil.models.evaluation.cell_store import AuditedCell
from unveil.models.evaluation.outcome import Sample
from unveil.models.evaluation.scheme_audit import Subject
from unveil.models.evaluation.scoring import ScoringOptions

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class AttackReport:
    """One attack of an audit. `status`: succeeded, failed or not_applicable; `reason` says why it has no result."""

    name: str
    threat_model: str
    status: str
    reason: str
    result: CellResult | None
    images: Images | None
    """Reconstructions of all test images, uint8 [N, H, W, 3], under the first key"""
    curve: Mapping[str, Sequence[Sequence[float]]]
    scores: Mapping[str, npt.NDArray[Any]]
    """Values by image: index, ssim, psnr, rank and others"""

    @property
    def key_agreement(self) -> Mapping[str, float | bool] | None:
        return None if self.result is None else self.result.key_agreement


class AuditReport:
    """The verdict on a scheme and the attacks that it rests on; `report["fr"]` is one attack.

    randomised: the function protected one image differently in two calls. digest: SHA-256 of all results; equal for
    equal arguments and versions on a CPU.
    """

    def __init__(
        self, scheme: Mapping[str, Any], subject: Subject, cells: Sequence[AuditedCell], options: ScoringOptions
    ) -> None:
        self.scheme = dict(scheme)
        self.randomised, self.key_per_image = subject.randomised, subject.key_per_image
        self._subject, self._cells, self._options = subject, list(cells), options
        self._finished_at = datetime.now(UTC)

    @property
    def name(self) -> str:
        return str(self.scheme["name"])

    @property
    def verdict(self) -> str:
        return self._verdict.verdict

    @property
    def because(self) -> str:
        return self._verdict.because

    @property
    def worst_attack(self) -> str | None:
        return self._verdict.worst_attack

    @property
    def attacks(self) -> list[str]:
        """Names of the attacks, in the order in which they ran."""
        return [cell.attack.name for cell in self._cells]

    def __getitem__(self, attack: str) -> AttackReport:
        """Raises KeyError for an attack that the audit does not include."""
        for cell, result in zip(self._cells, self._results, strict=True):
            if cell.attack.name == attack:
                outcome = cell.outcome
                return AttackReport(
                    attack,
                    cell.attack.threat_model.name,
                    cell.status,
                    cell.reason,
                    result,
                    outcome.reconstructed if outcome else None,
                    cell.curves,
                    outcome.scores.arrays() if outcome and outcome.scores else {},
                )
        raise KeyError(f"the audit does not include {attack!r}; it has {', '.join(self.attacks)}")

    def __iter__(self) -> Iterator[AttackReport]:
        return (self[name] for name in self.attacks)

    @cached_property
    def digest(self) -> str:
        return results_sha256(self._jobs)

    @property
    def table(self) -> EvaluationTable:
        """The view model of the report: one row, the scheme, with a column for each attack."""
        return self._report.table

    def to_json(self) -> dict[str, Any]:
        """The JSON report."""
        body: dict[str, Any] = json.loads(self.render("json"))
        return body

    def to_pandas(self) -> pd.DataFrame:
        """One row an attack. Raises ModuleNotFoundError without pandas."""
        return to_frame(
            {
                "attack": attack.name,
                "threat_model": attack.threat_model,
                "status": attack.status,
                **result_figures(attack.result),
                "reason": attack.reason,
            }
            for attack in self
        )

    def to_latex(self) -> str:
        """A `tabular` of the package booktabs: the scheme's row, with a column for each attack."""
        return to_latex(self.table)

    def plot(self) -> Plot:
        """The SSIM of every attack with its interval; a notebook shows it, `plot().save("ssim.svg")` writes it."""
        return plot_ssim(self.table)

    def render(self, format: str = "html") -> bytes:
        """The report as html, json, csv, md, pdf or zip, by the renderers of the service."""
        if format != "zip":
            return formats.render(self._report, Format(format))
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            formats.write_reports(archive, self._report)
            for position, (cell, job) in enumerate(zip(self._cells, self._report.evaluation.cells, strict=True)):
                if cell.outcome is None:
                    continue
                folder = f"cells/{position:03d}-{cell.attack.name.replace('/', '-')}"
                formats.write_scores_and_curves(archive, folder, formats.scores_csv(cell.outcome.scores), cell.curves)
                formats.write_sample_images(archive, folder, self._report.samples.get(job.id, ()))
        return buffer.getvalue()

    def save(self, path: str | Path) -> Path:
        """Write the report; the suffix is its format: .html, .json, .csv, .md, .pdf, .zip. Raises ValueError, OSError.

        A .pdf needs `unveil[pdf]`. Raises PdfUnavailable without it.
        """
        path = Path(path)
        format = path.suffix.removeprefix(".")
        if format not in [f.value for f in Format]:
            known = ", ".join(f".{f.value}" for f in Format)
            raise ValueError(f"{path}: unknown format {path.suffix!r}; end the name in one of {known}")
        path.write_bytes(self.render(format))
        return path

    def _repr_html_(self) -> str:
        return notebook.render(self._report)

    def __repr__(self) -> str:
        from unveil.app.cli import evaluation_table
        from unveil.app.cli.console import PlainConsole

        buffer = io.StringIO()
        PlainConsole(file=buffer, width=110, markup=False, emoji=False).print(evaluation_table.render(self.table))
        return buffer.getvalue().rstrip()

    @cached_property
    def _verdicts(self) -> tuple[SchemeVerdict, tuple[CellVerdict | None, ...]]:
        return compute_verdict(self._subject, self._cells, self._options)

    @property
    def _verdict(self) -> SchemeVerdict:
        return self._verdicts[0]

    @cached_property
    def _results(self) -> list[CellResult | None]:
        """By attack, with the verdict that follows from all attacks together."""
        results = []
        for cell, found in zip(self._cells, self._verdicts[1], strict=True):
            result = cell.outcome.result if cell.outcome else None
            if result is not None and found is not None:
                result = replace(result.with_verdict(found), hardware=describe_hardware(result.device))
            results.append(result)
        return results

    @cached_property
    def _jobs(self) -> list[Cell]:
        return [
            _job(self.scheme, number, cell, result)
            for number, (cell, result) in enumerate(zip(self._cells, self._results, strict=True))
        ]

    @cached_property
    def _report(self) -> Report:
        cells = self._jobs
        evaluation = Evaluation(
            id=f"audit-{self.digest[:12]}",
            name=f"Audit of {self.name}",
            status=Status.FAILED if any(cell.status == Status.FAILED for cell in cells) else Status.SUCCEEDED,
            created_at=self._finished_at,
            started_at=self._finished_at,
            finished_at=self._finished_at,
            progress=Progress(done=len(cells), total=len(cells), fraction=1.0, eta_s=0.0, phase=None),
            verdicts=[
                EvaluationVerdict(
                    scheme=self.scheme,
                    paper=paper_verdicts(self.scheme) if self._subject.scheme is not None else None,
                    **vars(self._verdict),
                )
            ],
            cells=cells,
            settings=self._settings,
            versions=package_versions(),
        )
        samples = {
            job.id: [_triple(job.id, sample) for sample in cell.outcome.samples]
            for job, cell in zip(cells, self._cells, strict=True)
            if cell.outcome
        }
        curves = {job.id: cell.curves for job, cell in zip(cells, self._cells, strict=True)}
        return Report(evaluation, curves, samples, call=self._call)

    @property
    def _settings(self) -> dict[str, Any]:
        """The fields of an evaluation's settings that reports show."""
        attacks = [catalog.flatten_settings(cell.attack) for cell in self._cells]
        own = {
            "dataset": self._subject.data.name,
            "public_dataset": None if self._subject.public is None else "public",
            "name": None,
            "key_per_image": self.key_per_image,
            "randomised": self.randomised,
        }
        return {"schemes": [self.scheme], "attacks": attacks, **own, **vars(self._options)}

    @property
    def _call(self) -> str:
        scheme = self.name if self._subject.scheme is None else repr(self.name)
        names = ", ".join(repr(name) for name in self.attacks)
        options = f"profile={self._options.profile!r}, seed={self._options.seed}"
        return f"unveil.audit({scheme}, images, attacks=[{names}], {options})"


def _job(scheme: Mapping[str, Any], number: int, cell: AuditedCell, result: CellResult | None) -> Cell:
    failed = cell.status == "failed"
    return Cell(
        id=f"cell-{number:02d}",
        scheme=scheme,
        attack=catalog.flatten_settings(cell.attack),
        threat_model=cell.attack.threat_model.name,
        status=Status(cell.status),
        progress=1.0,
        error=JobError(code="attack_failed", detail=cell.reason) if failed else None,
        reason=None if failed else cell.reason or None,
        result=None if result is None else replace(result, evidence=None),
    )


def _triple(cell_id: str, sample: Sample) -> SampleTriple:
    plain = None if sample.plain is None else to_png(sample.plain)
    protected, reconstructed = to_png(sample.protected), to_png(sample.reconstructed)
    md5 = None if plain is None else hashlib.md5(plain, usedforsecurity=False).hexdigest()
    sizes = (0 if plain is None else len(plain)), len(protected), len(reconstructed)
    return SampleTriple(cell_id, sample.index, sample.ssim, md5, *sizes, plain, protected, reconstructed)
