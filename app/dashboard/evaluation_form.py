"""The form of a new evaluation, and a preview of the evaluation, validated by the rules of the request itself."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from unveil.app.dashboard import queries
from unveil.app.dashboard.form_choices import (
    PRESETS,
    FormValues,
    attack_choices,
    prefill,
    scheme_choices,
    upload_choices,
)
from unveil.app.dashboard.rendering import PageRoute, render_page
from unveil.app.datasets import service as datasets
from unveil.app.dependencies import AppStateDep, Session
from unveil.app.evaluations import service
from unveil.app.evaluations.planning import PlannedCell
from unveil.app.evaluations.repeat import repeat_request
from unveil.app.evaluations.schemas import EvaluationCreate
from unveil.app.http.authentication import AuthenticatedRoute, EvaluatePrincipal
from unveil.app.http.pagination import PageRequest
from unveil.app.jobs.dispatch import load_cost_quota
from unveil.app.report.labels import title
from unveil.models import catalog

page_router = APIRouter(route_class=PageRoute)
api_router = APIRouter(route_class=AuthenticatedRoute)

# Seconds of a cell on one CPU core, of attacks that train nothing and those that train: until one's own are known.
_DEFAULT_CELL_SECONDS: Mapping[catalog.Profile, tuple[float, float]] = {
    "smoke": (3, 30),
    "quick": (20, 600),
    "paper": (120, 14400),
}
_PROFILE_DESCRIPTIONS: Mapping[catalog.Profile, str] = {
    "smoke": "seconds per cell: checks that everything works",
    "quick": "minutes per cell: a first result",
    "paper": "hours for attacks that train a network: the settings of the paper",
}
_PUBLIC_DATASET_LABEL = "Public images of the attacker"  # what the form calls the field `public_dataset`


@dataclass(frozen=True)
class Estimate:
    seconds: float
    measured_cells: int  # cells whose time is known from earlier ones
    default_cells: int


@page_router.get("/dashboard/evaluations/new")
async def show_form(
    request: Request,
    principal: EvaluatePrincipal,
    app_state: AppStateDep,
    session: Session,
    source: Annotated[str | None, Query(alias="from")] = None,
) -> Response:
    """The empty form, or with `from` the settings of that evaluation, to be edited."""
    all_datasets = (await datasets.list_page(session, principal, app_state.settings, PageRequest(200, None))).items
    trains = [name for name, scheme in catalog.schemes().items() if scheme.trains]
    keys = await queries.latest_ready_keys(session, principal.account_id, trains, audit_only=True)
    uploads = {dataset.id: dataset.name for dataset in all_datasets if dataset.kind == "protected"}
    choices = [*scheme_choices({name: key.id for name, key in keys.items()}), *upload_choices(uploads)]
    prefilled = FormValues()
    if source is not None:
        evaluation = await service.get_view(session, await service.get(session, principal, source))
        prefilled = prefill(repeat_request(evaluation), choices, [dataset.id for dataset in all_datasets])
    return render_page(
        request,
        "new.html",
        principal,
        presets=PRESETS,
        schemes=[*choices, *prefilled.further_schemes],
        attacks=attack_choices(),
        prefilled=prefilled,
        plain=[dataset for dataset in all_datasets if dataset.kind == "plain"],
        public=_PUBLIC_DATASET_LABEL,
        profiles=_PROFILE_DESCRIPTIONS,
        modes=catalog.SSIM_MODES,
    )


@api_router.post("/dashboard/evaluations/preview")
async def preview(
    request: Request,
    evaluation_create: EvaluationCreate,
    principal: EvaluatePrincipal,
    app_state: AppStateDep,
    session: Session,
) -> Response:
    """The cells, the estimate and the commands of a request, for the form's page. Raises what the request would."""
    request_body = evaluation_create.model_dump(mode="json", exclude_unset=True)
    planned = await service.plan(session, app_state, principal, evaluation_create)
    cells_by_scheme: dict[str, list[PlannedCell]] = {}
    for cell in planned.cells:
        reason = cell.not_applicable_reason and cell.not_applicable_reason.replace(
            "`public_dataset`", f"“{_PUBLIC_DATASET_LABEL}”"
        )
        cells_by_scheme.setdefault(title(cell.scheme, evaluation_create.profile), []).append(
            replace(cell, not_applicable_reason=reason)
        )
    runnable = [cell for cell in planned.cells if cell.not_applicable_reason is None]
    estimate = _estimate_duration(
        runnable,
        evaluation_create.profile,
        await queries.recent_cell_durations(session, principal.account_id, evaluation_create.profile),
    )
    return render_page(
        request,
        "preview.html",
        principal,
        body=json.dumps(request_body, indent=2),
        python=_python_snippet(request_body),
        address=str(request.base_url).rstrip("/"),
        profile=evaluation_create.profile,
        lines=cells_by_scheme,
        count=len(runnable),
        estimate=estimate,
        core_hours=planned.cost.core_seconds / 3600,
        quota=await load_cost_quota(session, app_state.settings, principal.account_id),
        keys=planned.keys,
    )


def _estimate_duration(
    cells: list[PlannedCell], profile: catalog.Profile, durations: Mapping[tuple[str, str], list[float]]
) -> Estimate:
    """On one worker, one cell after the other."""
    seconds, measured_cells = 0.0, 0
    for cell in cells:
        samples = durations.get((cell.scheme["name"], cell.attack["name"]))
        if samples:
            measured_cells += 1
        learned = catalog.is_training_attack(cell.attack["name"])
        seconds += statistics.median(samples) if samples else _DEFAULT_CELL_SECONDS[profile][learned]
    return Estimate(seconds, measured_cells, len(cells) - measured_cells)


def _python_snippet(request_body: Mapping[str, Any]) -> str:
    """The same request with the Python client: its fields are the arguments."""
    arguments = "".join(f"        {name}={value!r},\n" for name, value in request_body.items())
    return (
        "from unveil import Client\n\n"
        "with Client(URL, TOKEN) as client:\n"
        f"    evaluation = client.evaluations.create(\n{arguments}    )\n"
        "    evaluation.wait(progress=True)\n"
    )
