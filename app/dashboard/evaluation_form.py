"""The form of a new evaluation, and what an order would make, by the rules that the order itself is held to."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from unveil.app.dashboard import queries
from unveil.app.dashboard.rendering import PageRoute, render_page
from unveil.app.datasets import service as datasets
from unveil.app.dependencies import AppStateDep, Session
from unveil.app.errors.problem import Problem
from unveil.app.evaluations import service
from unveil.app.evaluations.planning import PlannedCell
from unveil.app.evaluations.schemas import EvaluationCreate
from unveil.app.http.authentication import AuthenticatedRoute, EvaluatePrincipal
from unveil.app.http.pagination import PageRequest
from unveil.app.report.labels import paper_row, title
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
    "smoke": "seconds a cell: does it work at all",
    "quick": "minutes a cell: a first answer",
    "paper": "hours for attacks that learn: the paper's settings",
}
_PUBLIC_DATASET_LABEL = "Photographs that the attacker owns"  # what the form calls the field `public_dataset`


@dataclass(frozen=True)
class Estimate:
    seconds: float
    measured_cells: int  # cells whose time is known from earlier ones
    default_cells: int


@page_router.get("/dashboard/evaluations/new")
async def show_form(
    request: Request, principal: EvaluatePrincipal, app_state: AppStateDep, session: Session
) -> Response:
    all_datasets = (await datasets.list_page(session, principal, app_state.settings, PageRequest(200, None))).items
    trains = [name for name, scheme in catalog.schemes().items() if scheme.trains]
    keys = await queries.latest_ready_keys(session, principal.account_id, trains)
    schemes: list[dict[str, Any]] = []
    for name in catalog.schemes():
        description = catalog.describe_scheme(name)
        # a trained key fixes the settings of its network; one trained for the evaluation has the profile's
        for params in [{}] if description["trains"] else [variant["params"] for variant in description["variants"]]:
            entry = {"name": name, **params}
            schemes.append(
                {"entry": entry, "title": title(entry), "trains": description["trains"], "key": keys.get(name)}
            )
    schemes.sort(key=lambda scheme: paper_row(scheme["entry"]) is None)
    return render_page(
        request,
        "new.html",
        principal,
        schemes=schemes,
        protected=[dataset for dataset in all_datasets if dataset.kind == "protected"],
        attacks=_attacks_by_threat_model(),
        plain=[dataset for dataset in all_datasets if dataset.kind == "plain"],
        public=_PUBLIC_DATASET_LABEL,
        profiles=_PROFILE_DESCRIPTIONS,
        modes=catalog.SSIM_MODES,
    )


def _attacks_by_threat_model() -> dict[str, list[dict[str, Any]]]:
    """By the name of their threat model, the named ones first; in each, the paper's own attacks first."""
    groups: dict[str, list[dict[str, Any]]] = {model.name: [] for model in catalog.NAMED_THREAT_MODELS}
    for attack in sorted(catalog.attacks().values(), key=lambda attack: attack.paper_name is None):
        groups.setdefault(attack.threat_model.name, []).append(catalog.describe_attack(attack.name))
    return groups


@api_router.post("/dashboard/evaluations/preview")
async def preview(
    request: Request,
    evaluation_create: EvaluationCreate,
    principal: EvaluatePrincipal,
    app_state: AppStateDep,
    session: Session,
) -> Response:
    """The pairs of an order, its time and its commands, as a part of the form's page."""
    request_body = evaluation_create.model_dump(mode="json", exclude_unset=True)
    request_json = json.dumps(request_body, indent=2)
    context: dict[str, Any] = {
        "body": request_json,
        "python": _python_snippet(request_body),
        "address": str(request.base_url).rstrip("/"),
        "profile": evaluation_create.profile,
        "problem": None,
        "lines": {},
        "count": 0,
        "estimate": None,
        "core_hours": None,
        "keys": [],
    }
    try:
        planned = await service.plan(session, app_state, principal, evaluation_create)
    except Problem as problem:
        return render_page(request, "preview.html", principal, **{**context, "problem": problem})
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
    found = {
        "lines": cells_by_scheme,
        "count": len(runnable),
        "estimate": estimate,
        "core_hours": planned.cost.core_seconds / 3600,
        "keys": planned.keys,
    }
    return render_page(request, "preview.html", principal, **{**context, **found})


def _estimate_duration(
    cells: list[PlannedCell], profile: catalog.Profile, durations: Mapping[tuple[str, str], list[float]]
) -> Estimate:
    """On one worker, one cell after the other."""
    seconds, measured_cells = 0.0, 0
    for cell in cells:
        samples = durations.get((cell.scheme["name"], cell.attack["name"]))
        if samples:
            measured_cells += 1
        learned = catalog.attacks()[cell.attack["name"]].learning_based
        seconds += statistics.median(samples) if samples else _DEFAULT_CELL_SECONDS[profile][learned]
    return Estimate(seconds, measured_cells, len(cells) - measured_cells)


def _python_snippet(request_body: Mapping[str, Any]) -> str:
    """The same by the client: an order's fields are its arguments."""
    arguments = "".join(f"        {name}={value!r},\n" for name, value in request_body.items())
    return (
        "from unveil import Client\n\n"
        "with Client(URL, TOKEN) as client:\n"
        f"    evaluation = client.evaluations.create(\n{arguments}    )\n"
        "    evaluation.wait(progress=True)\n"
    )
