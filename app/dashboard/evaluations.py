"""Pages of evaluations: the list, one that fills in as it runs, one of its cells, several side by side."""

from __future__ import annotations

import random
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from unveil.app.dashboard import charts, compare, heatmap, queries
from unveil.app.dashboard.rendering import PageRoute, page, redirect
from unveil.app.db.job_states import ACTIVE
from unveil.app.dependencies import Session
from unveil.app.evaluations import queries as rows
from unveil.app.evaluations import service
from unveil.app.evaluations.schemas import SampleOut
from unveil.app.http.authentication import Auditor, Reader
from unveil.app.http.pagination import EvaluationPaging
from unveil.app.http.pagination import page as listing
from unveil.models import catalog

router = APIRouter(route_class=PageRoute)


class Order(StrEnum):
    """Which reconstructions come first."""

    BEST = "best"
    WORST = "worst"
    RANDOM = "random"


@router.get("/")
async def show_evaluations(request: Request, caller: Reader, session: Session, paging: EvaluationPaging) -> Response:
    """The evaluations of the account, newest first."""
    found = await rows.evaluations(session, caller.account_id, paging)
    heads = await service.heads(session, found[: paging.limit])
    shown = listing(found, paging, lambda row: heads[row.id], lambda row: row.id)
    return page(
        request,
        "overview.html",
        caller,
        evaluations=shown.items,
        profiles={row.id: row.settings["profile"] for row in found},
        next=shown.next,
        cursor=paging.after is not None,
    )


@router.get("/dashboard/evaluations/{id}")
async def show_evaluation(request: Request, id: str, caller: Reader, session: Session) -> Response:
    """One evaluation; a page that is open takes its parts from a fresh one."""
    row = await service.find(session, caller, id)
    version = row.version
    evaluation = await service.show(session, row)
    running = {cell.id: cell for cell in evaluation.cells if cell.status in ACTIVE}
    metrics = await queries.running_metrics(session, evaluation.id, list(running))
    losses = [
        (heatmap.name(running[id], evaluation.settings["profile"]), chart)
        for id, named in metrics.items()
        for chart in charts.curves({name: points for name, points in named.items() if "loss" in name})
    ]
    return page(
        request,
        "evaluation.html",
        caller,
        evaluation=evaluation,
        version=version,
        table=heatmap.table(evaluation),
        losses=losses,
    )


@router.post("/dashboard/evaluations/{id}/cancel")
async def cancel_evaluation(id: str, caller: Auditor, session: Session) -> Response:
    try:
        await service.cancel(session, caller, id)
    except service.Ended:  # the page that follows shows how
        await session.rollback()
    return redirect(f"/dashboard/evaluations/{id}")


@router.post("/dashboard/evaluations/{id}/delete")
async def delete_evaluation(id: str, caller: Auditor, session: Session) -> Response:
    await service.delete(session, caller, id)
    return redirect("/")


@router.get("/dashboard/evaluations/{id}/cells/{cell_id}")
async def show_cell(
    request: Request, id: str, cell_id: str, caller: Reader, session: Session, order: Order = Order.BEST
) -> Response:
    """One scheme under one attack: pictures, figures, curves, settings."""
    evaluation = await service.show(session, await service.find(session, caller, id))
    await service.find_cell(session, caller, id, cell_id)
    ids = [cell.id for cell in evaluation.cells]
    if cell_id not in ids:
        raise service.UnknownPart(f"{cell_id} measures utility; see the page of evaluation {id}")
    at = ids.index(cell_id)
    cell = evaluation.cells[at]
    scores = await rows.scores(session, cell_id)
    if cell.status in ACTIVE:
        named = (await queries.running_metrics(session, evaluation.id, [cell_id])).get(cell_id, {})
    else:
        named = {curve.name: curve.points for curve in await rows.curves(session, [cell_id])}
    return page(
        request,
        "cell.html",
        caller,
        evaluation=evaluation,
        cell=cell,
        before=evaluation.cells[at - 1] if at else None,
        after=evaluation.cells[at + 1] if at + 1 < len(ids) else None,
        attack=catalog.describe_attack(cell.attack["name"]) if cell.attack["name"] in catalog.attacks() else None,
        profile=evaluation.settings["profile"],
        samples=_ordered(cell.samples, order),
        order=order.value,
        histogram=charts.histogram(scores.ssim) if scores else None,
        curves=charts.curves(named),
    )


def _ordered(samples: list[SampleOut], order: Order) -> list[SampleOut]:
    """`samples` come with the worst reconstruction first."""
    if order is Order.RANDOM:
        return random.sample(samples, len(samples))
    return samples if order is Order.WORST else heatmap.best_first(samples)


@router.get("/dashboard/compare")
async def compare_evaluations(
    request: Request,
    caller: Reader,
    session: Session,
    paging: EvaluationPaging,
    ids: Annotated[list[str] | None, Query()] = None,
) -> Response:
    """Two to four evaluations side by side; without them, the choice."""
    chosen = [id for part in ids or [] for id in part.split(",") if id]
    if not 2 <= len(set(chosen)) <= compare.MOST:
        found = await rows.evaluations(session, caller.account_id, paging)
        heads = list((await service.heads(session, found)).values())
        return page(request, "compare-choice.html", caller, evaluations=heads, chosen=chosen, most=compare.MOST)
    shown = [await service.show(session, await service.find(session, caller, id)) for id in dict.fromkeys(chosen)]
    return page(request, "compare.html", caller, comparison=compare.compare(shown), evaluations=shown)
