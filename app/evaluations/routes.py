"""Routes that create, follow, read, cancel and delete evaluations."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, HTTPException, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlalchemy import Row

from unveil.app.db.ids import new_id
from unveil.app.db.job_states import TERMINAL, Status
from unveil.app.db.tables import Evaluation
from unveil.app.dependencies import AppStateDep, Session
from unveil.app.errors.problem import (
    CostQuotaExceeded,
    EvaluationEnded,
    EvaluationRunning,
    IdempotencyMismatch,
    IdempotencyRunning,
    Invalid,
    KeyDestroyed,
    KeyNotReady,
    NoPairApplies,
    NotFound,
    PdfUnavailable,
    QueueFull,
    TooManyStreams,
    Unavailable,
    UnknownEvaluation,
)
from unveil.app.evaluations import images, queries, report_data, serializers, service, sse
from unveil.app.evaluations.images import ImageKind
from unveil.app.evaluations.report_response import build_report_response
from unveil.app.evaluations.schemas import (
    AttackedImageOut,
    EvaluationCreate,
    EvaluationEstimate,
    EvaluationOut,
    EvaluationSummary,
    EvaluationUpdate,
)
from unveil.app.evaluations.verdicts import COMPUTED_BY
from unveil.app.http.authentication import AuthenticatedRoute, EvaluatePrincipal, ReadPrincipal, resolve_principal
from unveil.app.http.etag import IfNoneMatch, matches
from unveil.app.http.idempotency import IdempotencyDep
from unveil.app.http.pagination import EvaluationPaging, Page, build_page
from unveil.app.http.problems import problems
from unveil.app.observability import failpoints
from unveil.app.report import formats
from unveil.app.report.formats import Format

router = APIRouter(prefix="/evaluations", tags=["evaluations"], route_class=AuthenticatedRoute)

EvaluationId = Annotated[str, Path(examples=["ev_0197f3c2a5d17a3b8c4d5e6f708192a3"])]
CellId = Annotated[str, Path(examples=["cell_0197f3c2a5d17a3b8c4d5e6f708192a3"])]
SampleIndex = Annotated[int, Path(ge=0, lt=2**31)]

_POLL_INTERVAL_S = "2"
# Other rules may come to other verdicts on the same rows.
_COMPUTED_BY_DIGEST = hashlib.sha256(COMPUTED_BY.encode()).hexdigest()[:8]
_IMMUTABLE_CACHE = {"Cache-Control": "private, max-age=86400, immutable"}  # stored samples never change


def _response(status: int, description: str, *media_types: str) -> dict[int | str, dict[str, Any]]:
    """A response that is not JSON, for `responses=` of a route."""
    response: dict[str, Any] = {"description": description}
    if media_types:
        response["content"] = {media_type: {} for media_type in media_types}
    return {status: response}


def _polling_headers(version_and_status: Evaluation | Row[Any]) -> dict[str, str]:
    version = f"{version_and_status.event_seq}-{version_and_status.edit_count}-{_COMPUTED_BY_DIGEST}"
    headers = {"ETag": f'W/"{version}"', "Cache-Control": "private, no-cache"}
    return headers if version_and_status.status in TERMINAL else {**headers, "Retry-After": _POLL_INTERVAL_S}


@router.post(
    "",
    status_code=202,
    response_model=EvaluationOut,
    responses=problems(
        Invalid,
        NoPairApplies,
        KeyDestroyed,
        KeyNotReady,
        CostQuotaExceeded,
        QueueFull,
        IdempotencyMismatch,
        IdempotencyRunning,
        Unavailable,
    ),
)
async def create_evaluation(
    body: EvaluationCreate,
    principal: EvaluatePrincipal,
    app_state: AppStateDep,
    session: Session,
    idempotency: IdempotencyDep,
    response: Response,
) -> EvaluationOut:
    """Create an evaluation: every scheme under every attack. Poll `Location`, or follow `/events`."""
    async with idempotency.begin(evaluation=new_id("ev")) as ids:
        evaluation = await service.create(session, app_state, principal, body, ids["evaluation"])
        headers = {"Location": evaluation.links["self"], "Retry-After": _POLL_INTERVAL_S}
        await idempotency.store_response(session, evaluation, status=202, headers=headers)
        failpoints.failpoint("create-before-commit")
        await session.commit()
    failpoints.failpoint("create-before-dispatch")
    await service.dispatch_jobs(app_state, evaluation)
    failpoints.failpoint("create-before-response")
    response.headers.update(headers)
    return evaluation


@router.post("/estimate", responses=problems(Invalid, NoPairApplies, KeyDestroyed, KeyNotReady))
async def estimate_evaluation(
    body: EvaluationCreate, principal: EvaluatePrincipal, app_state: AppStateDep, session: Session
) -> EvaluationEstimate:
    """What the request would run and cost, and what the account has left. Creates nothing."""
    return await service.estimate(session, app_state, principal, body)


@router.get("")
async def list_evaluations(
    principal: ReadPrincipal,
    session: Session,
    paging: EvaluationPaging,
    q: Annotated[
        str, Query(max_length=200, description="Only evaluations whose name, notes or tags contain this text")
    ] = "",
    status: Annotated[Status | None, Query()] = None,
    scheme: Annotated[str, Query(max_length=200, description="Only evaluations of this scheme")] = "",
    dataset: Annotated[str, Query(max_length=200, description="Name or id")] = "",
    tag: Annotated[str, Query(max_length=50, description="Only evaluations with this tag")] = "",
) -> Page[EvaluationSummary]:
    """The evaluations of the account, newest first, without their cells."""
    chosen = queries.EvaluationFilter(q, status or "", scheme, dataset, tag)
    rows = await queries.list_evaluations(session, principal.account_id, paging, chosen)
    summaries = await service.list_summaries(session, rows[: paging.limit])
    return build_page(rows, paging, lambda row: summaries[row.id], lambda row: row.id)


@router.get(
    "/{evaluation_id}",
    response_model=EvaluationOut,
    responses=_response(304, "Unchanged since the ETag in If-None-Match") | problems(UnknownEvaluation),
)
async def get_evaluation(
    evaluation_id: EvaluationId,
    principal: ReadPrincipal,
    app_state: AppStateDep,
    session: Session,
    response: Response,
    if_none_match: IfNoneMatch = None,
) -> EvaluationOut | Response:
    """One evaluation with its cells, results and verdicts."""
    if if_none_match is not None:
        headers = _polling_headers(await service.get_version_and_status(app_state, principal, evaluation_id))
        if matches(if_none_match, headers["ETag"]):
            return Response(status_code=304, headers=headers)
    evaluation = await service.get(session, principal, evaluation_id)
    response.headers.update(_polling_headers(evaluation))
    return await service.get_detail(session, evaluation)


@router.patch("/{evaluation_id}", responses=problems(UnknownEvaluation, Invalid))
async def update_evaluation(
    evaluation_id: EvaluationId,
    body: EvaluationUpdate,
    principal: EvaluatePrincipal,
    session: Session,
    response: Response,
) -> EvaluationOut:
    """Change the name, the tags or the notes, in whatever status the evaluation is."""
    evaluation = await service.update(session, principal, evaluation_id, body)
    response.headers.update(_polling_headers(evaluation))
    return await service.get_detail(session, evaluation)


@router.post(
    "/{evaluation_id}/cancel",
    status_code=202,
    responses=problems(UnknownEvaluation, EvaluationEnded),
)
async def cancel_evaluation(
    evaluation_id: EvaluationId, principal: EvaluatePrincipal, session: Session, response: Response
) -> EvaluationOut:
    """Cancel an evaluation: queued cells end at once, running cells within seconds. Results of finished cells are kept.

    Repeating the request gives the same answer; 409 if the evaluation has succeeded or failed.
    """
    evaluation = await service.cancel(session, principal, evaluation_id)
    response.headers.update({"Location": serializers.evaluation_url(evaluation_id), "Retry-After": _POLL_INTERVAL_S})
    return await service.get_detail(session, evaluation)


@router.delete(
    "/{evaluation_id}",
    status_code=204,
    responses=problems(UnknownEvaluation, EvaluationRunning),
)
async def delete_evaluation(evaluation_id: EvaluationId, principal: EvaluatePrincipal, session: Session) -> None:
    """Delete a finished evaluation with all its images and results."""
    await service.delete(session, principal, evaluation_id)


async def _open_stream(
    request: Request,
    evaluation_id: EvaluationId,
    principal: ReadPrincipal,
    app_state: AppStateDep,
    last_event_id: Annotated[int, Header(ge=0, lt=2**63, description="Continue after this event")] = 0,
    after: Annotated[
        int, Query(ge=0, lt=2**63, description="Like Last-Event-ID, for clients that cannot set headers")
    ] = 0,
) -> AsyncIterator[int]:
    """Yields the id of the last event that the client has seen; counts as an open stream until the response ends."""
    last_seen = max(last_event_id, after)
    async with app_state.sessions() as session:
        evaluation = await service.get(session, principal, evaluation_id)
    if sse.is_finished(evaluation, last_seen):
        raise HTTPException(204)  # tells an EventSource not to reconnect
    streams: sse.StreamLimiter = request.app.state.streams
    with streams.open(principal.account_id):
        yield last_seen


@router.get(
    "/{evaluation_id}/events",
    response_class=EventSourceResponse,
    responses=_response(200, "Events of type progress, cell, metric and status; ids rise", "text/event-stream")
    | _response(204, "The evaluation has ended and Last-Event-ID is its last event: do not reconnect")
    | problems(UnknownEvaluation, TooManyStreams),
)
async def stream_events(
    request: Request,
    evaluation_id: EvaluationId,
    app_state: AppStateDep,
    last_seen: Annotated[int, Depends(_open_stream)],
) -> AsyncIterator[ServerSentEvent]:
    """All events of an evaluation, from its beginning or after `Last-Event-ID`."""

    async def read_version_and_status() -> Row[Any] | None:
        """None once the evaluation is deleted or the client has lost the right to read it."""
        principal = await resolve_principal(request)
        if principal is None or "read" not in principal.scopes:
            return None
        return await queries.get_version_and_status(app_state.loader, principal.account_id, evaluation_id)

    async for event in sse.iter_events(app_state.sessions, evaluation_id, read_version_and_status, last_seen):
        yield event


@router.get(
    "/{evaluation_id}/report.{format}",
    response_class=Response,
    responses=_response(200, "The report", *formats.MEDIA_TYPES.values()) | problems(UnknownEvaluation, PdfUnavailable),
)
async def get_report(
    evaluation_id: EvaluationId,
    format: Format,
    principal: ReadPrincipal,
    app_state: AppStateDep,
    session: Session,
    images: Annotated[bool, Query(description="false: leave out all images, for a copy to share")] = True,
) -> Response:
    """The current report: a self-contained HTML page, JSON, CSV, Markdown or a zip. All but CSV are signed.

    `unveil report verify` checks a signature; `/.well-known/jwks.json` serves the public keys.
    """
    evaluation = await service.get(session, principal, evaluation_id)
    view = await service.get_view(session, evaluation)
    return await build_report_response(app_state, session, evaluation, view, format, with_images=images)


@router.get("/{evaluation_id}/cells/{cell_id}/curve", responses=problems(NotFound))
async def get_curves(
    evaluation_id: EvaluationId, cell_id: CellId, principal: ReadPrincipal, session: Session
) -> Mapping[str, list[list[float | None]]]:
    """Named curves of a cell: losses, SSIM by number of ciphertexts. `{"name": [[step, value], ...]}`."""
    cell = await service.get_cell(session, principal, evaluation_id, cell_id)
    return {curve.name: curve.points for curve in await queries.list_curves(session, [cell.id])}


@router.get(
    "/{evaluation_id}/cells/{cell_id}/scores.csv",
    response_class=Response,
    responses=_response(200, "One line for each image", "text/csv") | problems(NotFound),
)
async def get_scores(
    evaluation_id: EvaluationId, cell_id: CellId, principal: ReadPrincipal, session: Session
) -> Response:
    """For each image: index, ssim, psnr, rank in the gallery, vif. Only the header before the cell ends."""
    cell = await service.get_cell(session, principal, evaluation_id, cell_id)
    return Response(await report_data.scores_csv(session, cell.id), media_type="text/csv")


@router.get("/{evaluation_id}/cells/{cell_id}/images/{index}", responses=problems(NotFound))
async def get_image(
    evaluation_id: EvaluationId, cell_id: CellId, index: SampleIndex, principal: ReadPrincipal, session: Session
) -> AttackedImageOut:
    """One attacked image: its scores and, where originals are known, its line-up."""
    cell = await service.get_cell_view(session, principal, evaluation_id, cell_id)
    image = images.find_image(await images.list_images(session, evaluation_id, cell), index)
    address = serializers.evaluation_url(evaluation_id, cell_id)
    return await images.describe_image(session, evaluation_id, cell, image, address)


@router.get(
    "/{evaluation_id}/cells/{cell_id}/samples/{index}/{picture}.png",
    response_class=Response,
    responses=_response(200, "The image", "image/png") | problems(NotFound),
)
async def get_sample(
    evaluation_id: EvaluationId,
    cell_id: CellId,
    index: SampleIndex,
    picture: ImageKind,
    principal: ReadPrincipal,
    session: Session,
) -> Response:
    """One stored image: plain, protected or reconstructed."""
    cell = await service.get_cell(session, principal, evaluation_id, cell_id)
    image = await images.read_image(session, cell.id, index, picture)
    return Response(image, media_type="image/png", headers=_IMMUTABLE_CACHE)


@router.get(
    "/{evaluation_id}/cells/{cell_id}/gallery/{number}.png",
    response_class=Response,
    responses=_response(200, "The image", "image/png") | problems(NotFound),
)
async def get_gallery_image(
    evaluation_id: EvaluationId, cell_id: CellId, number: SampleIndex, principal: ReadPrincipal, session: Session
) -> Response:
    """An original of the identification gallery: attacked images first, then distractors, as line-ups number them."""
    cell = await service.get_cell(session, principal, evaluation_id, cell_id)
    image = await images.read_gallery_image(session, cell.id, number)
    return Response(image, media_type="image/png", headers=_IMMUTABLE_CACHE)
