"""Pages of evaluations: the list, one evaluation, several side by side. Those of its cells: cells.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from unveil.app.dashboard import compare, queries
from unveil.app.dashboard.rendering import PageRoute, redirect, render_page
from unveil.app.db.ids import new_id
from unveil.app.db.job_states import ACTIVE, Status
from unveil.app.dependencies import AppStateDep, Session
from unveil.app.errors.problem import EvaluationEnded, Invalid, NotFound, UnknownEvaluation
from unveil.app.evaluations import queries as rows
from unveil.app.evaluations import repeat, service
from unveil.app.evaluations.schemas import EvaluationCreate, EvaluationUpdate
from unveil.app.http.authentication import EvaluatePrincipal, ReadPrincipal
from unveil.app.http.pagination import EvaluationPaging
from unveil.app.http.pagination import build_page as listing
from unveil.app.http.validation import to_problem
from unveil.app.report import charts
from unveil.app.report.evaluation import Evaluation, Job
from unveil.app.report.labels import title
from unveil.app.report.table import EvaluationTable
from unveil.app.security.principal import Principal
from unveil.app.shares import service as share_links
from unveil.app.shares.schemas import ShareCreate, ShareOut
from unveil.app.shares.service import SharedEvaluation
from unveil.models import catalog

router = APIRouter(route_class=PageRoute)
_FILTERS = ("q", "status", "scheme", "dataset", "tag")


@dataclass(frozen=True)
class RunningJob:
    """A cell, a utility measurement or the training of a key, as the page of a running evaluation lists it."""

    id: str
    title: str
    path: str | None
    progress: float
    phase: str


@router.get("/")
async def show_evaluations(
    request: Request,
    principal: ReadPrincipal,
    session: Session,
    paging: EvaluationPaging,
    q: Annotated[str, Query(max_length=200)] = "",
    status: Annotated[Status | Literal[""], Query()] = "",
    scheme: Annotated[str, Query(max_length=200)] = "",
    dataset: Annotated[str, Query(max_length=200)] = "",
    tag: Annotated[str, Query(max_length=50)] = "",
) -> Response:
    """The evaluations of the account, newest first, filtered as in `GET /evaluations`."""
    chosen = rows.EvaluationFilter(q, status, scheme, dataset, tag)
    evaluation_rows = await rows.list_evaluations(session, principal.account_id, paging, chosen)
    datasets, tags = await queries.list_filter_choices(session, principal.account_id)
    summaries = await service.list_summaries(session, evaluation_rows[: paging.limit])
    summary_page = listing(evaluation_rows, paging, lambda row: summaries[row.id], lambda row: row.id)
    return render_page(
        request,
        "overview.html",
        principal,
        evaluations=summary_page.items,
        profiles={row.id: row.settings["profile"] for row in evaluation_rows},
        next=summary_page.next,
        cursor=paging.after is not None,
        filter=dict(zip(_FILTERS, (q, status, scheme, dataset, tag), strict=True)),
        is_filtered=any((q, status, scheme, dataset, tag)),
        choices={
            "status": {each.value: each.value for each in Status if each != Status.NOT_APPLICABLE},
            "scheme": {name: title({"name": name}) for name in (*catalog.schemes(), catalog.EXTERNAL)},
            "dataset": datasets,
            "tag": dict(zip(tags, tags, strict=True)),
        },
    )


@router.get("/dashboard/evaluations/{id}")
async def show_evaluation(request: Request, id: str, principal: ReadPrincipal, session: Session) -> Response:
    """One evaluation. An open page replaces its parts with those of a new copy."""
    row = await service.get(session, principal, id)
    version = row.event_seq
    evaluation = await service.get_view(session, row)
    live = await share_links.list_shares(session, principal, id)
    return await render_evaluation(request, principal, session, evaluation, version=version, shares=live)


async def render_evaluation(
    request: Request,
    principal: Principal | None,
    session: AsyncSession,
    evaluation: Evaluation,
    address: str | None = None,
    *,
    version: int | None = None,
    shares: Sequence[ShareOut] = (),
    shared: SharedEvaluation | None = None,
) -> Response:
    """For its account, with the version that an open page follows; or for the reader of a share link at `address`."""
    table = EvaluationTable(evaluation)
    running = [cell.id for cell in evaluation.cells if cell.status in ACTIVE]
    curves_by_cell = await queries.get_running_curves(session, evaluation.id, running)
    loss_charts = [
        (table.cell_titles[id], chart)
        for id, curves in curves_by_cell.items()
        for chart in charts.build_curve_charts(charts.loss_curves(curves))
    ]
    return render_page(
        request,
        "evaluation.html",
        principal,
        evaluation=evaluation,
        page=address or f"/dashboard/evaluations/{evaluation.id}",
        api=address or f"/evaluations/{evaluation.id}",
        table=table,
        losses=loss_charts,
        running=_list_running_jobs(evaluation, table),
        failed=[job for job in _all_jobs(evaluation) if job.status == Status.FAILED],
        failure_reasons=[reason for reason in table.empty_reasons if reason.text == Status.FAILED],
        version=version,
        shares=shares,
        shared=shared,
    )


def _all_jobs(evaluation: Evaluation) -> list[Job]:
    return [*evaluation.cells, *evaluation.utility]


def _list_running_jobs(evaluation: Evaluation, table: EvaluationTable) -> list[RunningJob]:
    """Trainings of keys first, because cells wait for them."""
    keys = [
        RunningJob(
            key["id"],
            f"Training of a key of {title({'name': key['scheme']})}",
            None,
            key["progress"] or 0.0,
            key["phase"],
        )
        for key in evaluation.keys
        if key["status"] in ("training", "cancelling") and key["phase"]
    ]
    base = f"/dashboard/evaluations/{evaluation.id}"
    utility_titles = {row.utility.id: f"Utility of {row.title}" for row in table.rows if row.utility}
    titles = {**utility_titles, **table.cell_titles}
    jobs = [
        RunningJob(
            job.id,
            titles[job.id],
            f"{base}#utility" if job.id in utility_titles else f"{base}/cells/{job.id}",
            job.progress,
            job.phase or job.status,
        )
        for job in _all_jobs(evaluation)
        if job.status in (Status.RUNNING, Status.CANCELLING)
    ]
    return keys + jobs


@router.post("/dashboard/evaluations/{id}/run-again")
async def run_again(
    id: str, principal: EvaluatePrincipal, app_state: AppStateDep, session: Session, failed: bool = False
) -> Response:
    """Order the same evaluation again, or with `failed` its failed cells, and show the new one."""
    evaluation = await service.get_view(session, await service.get(session, principal, id))
    if failed and all(job.status != Status.FAILED for job in _all_jobs(evaluation)):
        raise Invalid("no cell of this evaluation failed")
    body = (repeat.retry_request if failed else repeat.repeat_request)(evaluation)
    try:
        order = EvaluationCreate.model_validate(body)
    except ValidationError as error:  # settings of a version with other limits
        raise to_problem(RequestValidationError(error.errors(), body=body)) from None
    created = await service.create(session, app_state, principal, order, new_id("ev"))
    await session.commit()
    await service.dispatch_jobs(app_state, created)
    return redirect(f"/dashboard/evaluations/{created.id}")


@router.post("/dashboard/evaluations/{id}/edit")
async def edit_evaluation(
    id: str,
    principal: EvaluatePrincipal,
    session: Session,
    name: Annotated[str, Form()],
    tags: Annotated[str, Form()] = "",
    notes: Annotated[str, Form()] = "",
) -> Response:
    """tags: comma-separated."""
    tag_list = [tag for tag in map(str.strip, tags.split(",")) if tag]
    try:
        body = EvaluationUpdate.model_validate({"name": name, "tags": tag_list, "notes": notes})
    except ValidationError as error:
        raise to_problem(RequestValidationError(error.errors())) from None
    await service.update(session, principal, id, body)
    return redirect(f"/dashboard/evaluations/{id}")


@router.post("/dashboard/evaluations/{id}/shares")
async def create_share(
    request: Request,
    id: str,
    principal: EvaluatePrincipal,
    app_state: AppStateDep,
    session: Session,
    days: Annotated[int, Form(ge=1, le=365)],
    images: Annotated[bool, Form()] = False,
) -> Response:
    """The page that shows the new link this once."""
    evaluation = await service.get(session, principal, id)
    name, body = evaluation.name, ShareCreate(expires_in_days=days, images=images)
    share = await share_links.create(session, app_state.keyring, principal, id, body, new_id("share"))
    await session.commit()
    return render_page(request, "share.html", principal, id=id, name=name, share=share)


@router.post("/dashboard/evaluations/{id}/shares/{share_id}/revoke")
async def revoke_share(id: str, share_id: str, principal: EvaluatePrincipal, session: Session) -> Response:
    try:
        await share_links.revoke(session, principal, id, share_id)
    except UnknownEvaluation:
        raise
    except NotFound:  # it has expired; the next page shows what is left
        pass
    return redirect(f"/dashboard/evaluations/{id}")


@router.post("/dashboard/evaluations/{id}/cancel")
async def cancel_evaluation(id: str, principal: EvaluatePrincipal, session: Session) -> Response:
    try:
        await service.cancel(session, principal, id)
    except EvaluationEnded:  # the next page shows the status
        await session.rollback()
    return redirect(f"/dashboard/evaluations/{id}")


@router.post("/dashboard/evaluations/{id}/delete")
async def delete_evaluation(id: str, principal: EvaluatePrincipal, session: Session) -> Response:
    await service.delete(session, principal, id)
    return redirect("/")


@router.get("/dashboard/compare")
async def compare_evaluations(
    request: Request,
    principal: ReadPrincipal,
    session: Session,
    paging: EvaluationPaging,
    ids: Annotated[list[str] | None, Query()] = None,
) -> Response:
    """Two to four evaluations side by side; without ids, the page to choose them."""
    chosen = [id for part in ids or [] for id in part.split(",") if id]
    if not 2 <= len(set(chosen)) <= compare.MAX_EVALUATIONS:
        evaluation_rows = await rows.list_evaluations(session, principal.account_id, paging)
        summaries = list((await service.list_summaries(session, evaluation_rows)).values())
        return render_page(
            request,
            "compare-choice.html",
            principal,
            evaluations=summaries,
            chosen=chosen,
            most=compare.MAX_EVALUATIONS,
        )
    evaluations = [
        await service.get_view(session, await service.get(session, principal, id)) for id in dict.fromkeys(chosen)
    ]
    comparison = compare.compare(evaluations)
    return render_page(request, "compare.html", principal, comparison=comparison, evaluations=evaluations)
