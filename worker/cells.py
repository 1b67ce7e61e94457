"""One cell of an evaluation: claim its row, run the attack, build the rows of its result."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Curve, Evaluation, Key, Sample, Scores
from unveil.app.jobs import event_log
from unveil.app.security.envelope import DecryptionError
from unveil.models import catalog
from unveil.models.attacks.submitted import Submitted
from unveil.models.catalog import make_attack, make_scheme
from unveil.models.core.errors import AttackFailed
from unveil.models.core.hardware import describe_hardware
from unveil.models.core.images import Images, to_png
from unveil.models.core.json_record import encode
from unveil.models.core.profiles import PROFILE_IMAGE_COUNTS
from unveil.models.core.version import package_versions
from unveil.models.data.image_dataset import ImageDataset
from unveil.models.data.reconstructions import NamesDoNotMatch, match_reconstructions
from unveil.models.evaluation.cell import measure_utility, run_cell
from unveil.models.evaluation.external_ciphertexts import run_external
from unveil.models.evaluation.outcome import AnyOutcome
from unveil.models.evaluation.scoring import ScoringOptions
from unveil.worker import jobs, key_loading, lease
from unveil.worker.cell_images import store_cell_images
from unveil.worker.dataset_loading import load_dataset
from unveil.worker.jobs import ClaimedJob, JobFailed, JobOutcome, Reporter
from unveil.worker.runtime import Runtime

_NOT_SCHEME_SETTINGS, _NOT_ATTACK_SETTINGS = ("name", "key_id", "dataset", "added"), ("name", "added")


class KeyUnusable(JobFailed):
    """The key of the cell is destroyed, not ready, or cannot be decrypted."""

    code = "key_unusable"


@dataclass(frozen=True)
class CellJob(ClaimedJob):
    attack_failed: ClassVar[str] = "attack_failed"

    settings: dict[str, Any]  # of the evaluation
    planned_cells: int  # on the same scheme
    scheme: dict[str, Any]
    attack: dict[str, Any]

    def run(self, reporter: Reporter) -> JobOutcome:
        outcome = _evaluate(self, reporter)
        rows = _result_rows(self.lease.id, outcome, reporter.curves)
        if outcome.images is not None:
            assert self.evaluation_id is not None
            rows.append(store_cell_images(self.runtime, self.evaluation_id, self.lease.id, outcome.images))
        return JobOutcome(_outcome_values(self, outcome), rows)

    def publish_status(self, session: Session, evaluation: Evaluation) -> None:
        event_log.on_cell_status_changed(session, evaluation, self.lease.id)


def claim(runtime: Runtime, id: str) -> CellJob | None:
    with runtime.sessions.begin() as session:
        evaluation_id = session.scalar(select(Cell.evaluation_id).where(Cell.id == id))
        evaluation = None if evaluation_id is None else event_log.lock_evaluation(session, evaluation_id)
        if evaluation is None:
            return None
        claimed_lease = lease.claim(session, Cell, id, runtime.owner, runtime.settings.lease_ttl_s)
        if claimed_lease is None:
            return None
        event_log.on_cell_status_changed(session, evaluation, id)
        cell = session.get_one(Cell, id)
        return CellJob(
            runtime,
            claimed_lease,
            account_id=evaluation.account_id,
            evaluation_id=evaluation.id,
            profile=evaluation.settings["profile"],
            best_progress=cell.progress,
            checkpoint_wrapped_key=jobs.get_or_create_checkpoint_key(runtime, cell, evaluation.account_id),
            settings=evaluation.settings,
            planned_cells=_count_cells_of_scheme(session, cell),
            scheme=cell.scheme,
            attack=cell.attack,
        )


def _count_cells_of_scheme(session: Session, cell: Cell) -> int:
    schemes = session.scalars(select(Cell.scheme).where(Cell.evaluation_id == cell.evaluation_id))
    return sum(scheme == cell.scheme for scheme in schemes)


def _evaluate(job: CellJob, reporter: Reporter) -> AnyOutcome:
    runtime, settings, profile = job.runtime, job.settings, job.profile
    reporter.report(0.0, "loading images")
    external = job.scheme["name"] == catalog.EXTERNAL
    data = load_dataset(runtime, job.account_id, job.scheme["dataset"] if external else settings["dataset"])
    public = settings["public_dataset"] and load_dataset(runtime, job.account_id, settings["public_dataset"]).train
    options = ScoringOptions(
        seed=settings["seed"],
        keys=settings["keys"],
        samples=settings["samples"],
        ssim_mode=settings["ssim_mode"],
        profile=profile,
        utility=settings["utility"],
        planned_cells=job.planned_cells,
    )
    context = job.run_context(reporter, settings["seed"])
    reporter.report(0.0, "running")
    scheme = None if external else make_scheme(*_name_and_settings(job.scheme, _NOT_SCHEME_SETTINGS), profile)
    secret = _load_secret(job)
    if job.attack["name"] == catalog.UTILITY:
        return measure_utility(scheme, data, options, context, secret=secret)
    attack = make_attack(*_name_and_settings(job.attack, _NOT_ATTACK_SETTINGS), profile)
    if isinstance(attack, Submitted):
        attack = Submitted(attack.settings, _load_reconstructions(job, attack.settings.dataset, data))
    if scheme is None:
        return run_external(attack, data, options, context, public=public)
    return run_cell(scheme, attack, data, options, context, secret=secret, public=public)


def _name_and_settings(entry: Mapping[str, Any], not_settings: Collection[str]) -> tuple[str, dict[str, Any]]:
    return entry["name"], {name: value for name, value in entry.items() if name not in not_settings}


def _load_reconstructions(job: CellJob, dataset: str, data: ImageDataset) -> Images:
    """The submitted image of each test image that the profile attacks. Raises DatasetMissing, AttackFailed."""
    submitted = load_dataset(job.runtime, job.account_id, dataset)
    try:
        return match_reconstructions(submitted, data.take(*PROFILE_IMAGE_COUNTS[job.profile]))
    except NamesDoNotMatch as error:
        raise AttackFailed(str(error)) from error


def _load_secret(job: CellJob) -> bytes | None:
    """The secret of the key of the cell; None if keys are drawn from the seed. Raises KeyUnusable."""
    key_id = job.scheme.get("key_id")
    if key_id is None:
        return None
    with job.runtime.sessions() as session:
        key = session.scalar(select(Key).where(Key.id == key_id, Key.account_id == job.account_id))
    if key is None or key.destroyed_at is not None or key.status != Status.SUCCEEDED:
        raise KeyUnusable(f"key {key_id} was destroyed or is not ready")
    try:
        return key_loading.decrypt_secret(job.runtime, key)
    except FileNotFoundError:
        raise KeyUnusable(f"the weights of key {key_id} are missing") from None
    except DecryptionError:
        raise KeyUnusable(f"key {key_id} cannot be decrypted with the master keys of this service") from None


def _outcome_values(job: CellJob, outcome: AnyOutcome) -> dict[str, Any]:
    origin = catalog.origins(job.scheme["name"], job.attack["name"])
    hardware = describe_hardware(outcome.result.device)
    result = replace(outcome.result, hardware=hardware, versions=package_versions(), origin=origin)
    return {"result": result.to_json()}


def _result_rows(cell_id: str, outcome: AnyOutcome, metrics: dict[str, list[list[float]]]) -> list[Any]:
    rows: list[Any] = [
        Sample(
            cell_id=cell_id,
            index=sample.index,
            ssim=sample.ssim,
            plain=None if sample.plain is None else to_png(sample.plain),
            protected=to_png(sample.protected),
            reconstructed=to_png(sample.reconstructed),
        )
        for sample in outcome.samples
    ]
    if outcome.scores is not None:
        scores = {name: getattr(outcome.scores, name).tolist() for name in ("index", "ssim", "psnr", "rank")}
        vif = outcome.scores.vif
        rows.append(Scores(cell_id=cell_id, **scores, vif=None if vif is None else vif.tolist()))
    for name, points in {**metrics, **outcome.curves}.items():
        rows.append(Curve(cell_id=cell_id, name=name, points=encode(points)))
    return rows
