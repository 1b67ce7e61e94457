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
from unveil.app.dashboard.rendering import PageRoute, page
from unveil.app.datasets import service as datasets
from unveil.app.dependencies import Session, Svc
from unveil.app.errors.problem import Problem
from unveil.app.evaluations import serializers, service
from unveil.app.evaluations.planning import PlannedCell
from unveil.app.evaluations.schemas import EvaluationOrder
from unveil.app.http.authentication import Auditor, CallerFirst
from unveil.app.http.pagination import PageRequest
from unveil.app.report.labels import title
from unveil.models import catalog

pages = APIRouter(route_class=PageRoute)
calls = APIRouter(route_class=CallerFirst)

# Seconds of a cell on one CPU core, of attacks that train nothing and those that train: until one's own are known.
_ROUGH: Mapping[catalog.Profile, tuple[float, float]] = {"smoke": (3, 30), "quick": (20, 600), "paper": (120, 14400)}
_PROFILES: Mapping[catalog.Profile, str] = {
    "smoke": "seconds a cell: does it work at all",
    "quick": "minutes a cell: a first answer",
    "paper": "hours for attacks that learn: the paper's settings",
}
_PUBLIC = "Photographs that the attacker owns"  # what the form calls the field `public_dataset`


@dataclass(frozen=True)
class Estimate:
    seconds: float
    own: int  # cells whose time is known from earlier ones
    rough: int


@pages.get("/dashboard/evaluations/new")
async def show_form(request: Request, caller: Auditor, svc: Svc, session: Session) -> Response:
    known = (await datasets.list_page(session, caller, svc.settings, PageRequest(200, None))).items
    trains = [name for name, scheme in catalog.schemes().items() if scheme.trains]
    keys = await queries.newest_ready(session, caller.account_id, trains)
    schemes: list[dict[str, Any]] = []
    for name in catalog.schemes():
        told = catalog.describe_scheme(name)
        # a trained key fixes the settings of its network; one trained for the evaluation has the profile's
        for params in [{}] if told["trains"] else [variant["params"] for variant in told["variants"]]:
            entry = {"name": name, **params}
            schemes.append({"entry": entry, "title": title(entry), "trains": told["trains"], "key": keys.get(name)})
    schemes.sort(key=lambda scheme: serializers.paper_of(scheme["entry"]) is None)
    return page(
        request,
        "new.html",
        caller,
        schemes=schemes,
        protected=[dataset for dataset in known if dataset.kind == "protected"],
        attacks={model.value: _attacks(model) for model in catalog.ThreatModel},
        plain=[dataset for dataset in known if dataset.kind == "plain"],
        public=_PUBLIC,
        profiles=_PROFILES,
        modes=catalog.SSIM_MODES,
    )


def _attacks(model: catalog.ThreatModel) -> list[dict[str, Any]]:
    """Those of a threat model; the paper's own first."""
    own = [attack for attack in catalog.attacks().values() if attack.threat_model is model]
    return [catalog.describe_attack(a.name) for a in sorted(own, key=lambda attack: attack.paper_name is None)]


@calls.post("/dashboard/evaluations/preview")
async def preview(request: Request, order: EvaluationOrder, caller: Auditor, svc: Svc, session: Session) -> Response:
    """The pairs of an order, its time and its commands, as a part of the form's page."""
    sent = order.model_dump(mode="json", exclude_unset=True)
    body = json.dumps(sent, indent=2)
    context: dict[str, Any] = {
        "body": body, "python": _python(sent), "address": str(request.base_url).rstrip("/"), "profile": order.profile,
        "problem": None, "lines": {}, "count": 0, "estimate": None, "keys": [],
    }  # fmt: skip
    try:
        planned = await service.plan_of(session, svc, caller, order)
    except Problem as problem:
        return page(request, "preview.html", caller, **{**context, "problem": problem})
    lines: dict[str, list[PlannedCell]] = {}
    for cell in planned.cells:
        told = cell.refusal and cell.refusal.replace("`public_dataset`", f"“{_PUBLIC}”")
        lines.setdefault(title(cell.scheme, order.profile), []).append(replace(cell, refusal=told))
    run = [cell for cell in planned.cells if cell.refusal is None]
    estimate = _estimate(run, order.profile, await queries.own_seconds(session, caller.account_id, order.profile))
    found = {"lines": lines, "count": len(run), "estimate": estimate, "keys": planned.keys}
    return page(request, "preview.html", caller, **{**context, **found})


def _estimate(
    cells: list[PlannedCell], profile: catalog.Profile, taken: Mapping[tuple[str, str], list[float]]
) -> Estimate:
    """On one worker, one cell after the other."""
    seconds, own = 0.0, 0
    for cell in cells:
        known = taken.get((cell.scheme["name"], cell.attack["name"]))
        if known:
            own += 1
        learned = catalog.attacks()[cell.attack["name"]].learned
        seconds += statistics.median(known) if known else _ROUGH[profile][learned]
    return Estimate(seconds, own, len(cells) - own)


def _python(order: Mapping[str, Any]) -> str:
    """The same by the client: an order's fields are its arguments."""
    arguments = "".join(f"        {name}={value!r},\n" for name, value in order.items())
    return (
        "from unveil import Client\n\n"
        "with Client(URL, TOKEN) as client:\n"
        f"    evaluation = client.evaluations.create(\n{arguments}    )\n"
        "    evaluation.wait(progress=True)\n"
    )
