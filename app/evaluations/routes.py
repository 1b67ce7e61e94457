"""Order evaluations, follow them, read what came out."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from sqlalchemy import Row
from starlette.responses import StreamingResponse

from unveil.app import report
from unveil.app.datasets.service import NoPlainImages
from unveil.app.db.ids import new_id
from unveil.app.db.job_states import ENDED
from unveil.app.db.tables import Evaluation
from unveil.app.dependencies import Session, Svc
from unveil.app.errors.problem import Invalid, Unavailable
from unveil.app.evaluations import queries, serializers, service, sse
from unveil.app.evaluations.planning import NoPairApplies
from unveil.app.evaluations.schemas import EvaluationHead, EvaluationOrder, EvaluationOut
from unveil.app.http.authentication import Auditor, CallerFirst, Reader, signed_in
from unveil.app.http.etag import IfNoneMatch, matches
from unveil.app.http.idempotency import Idempotent, Mismatch, Running
from unveil.app.http.pagination import EvaluationPaging, Page, page
from unveil.app.http.problems import problems
from unveil.app.jobs.dispatch import QueueFull
from unveil.app.observability import failpoints

router = APIRouter(prefix="/evaluations", tags=["evaluations"], route_class=CallerFirst)

EvaluationId = Annotated[str, Path(examples=["ev_0197f3c2a5d17a3b8c4d5e6f708192a3"])]
CellId = Annotated[str, Path(examples=["cell_0197f3c2a5d17a3b8c4d5e6f708192a3"])]
SampleIndex = Annotated[int, Path(ge=0, lt=2**31)]

_POLL_S = "2"
_FOREVER = {"Cache-Control": "private, max-age=86400, immutable"}  # a stored sample never changes


def _answers(status: int, description: str, *media_types: str) -> dict[int | str, dict[str, Any]]:
    """An answer that is not JSON, for the `responses=` of a route."""
    answer: dict[str, Any] = {"description": description}
    if media_types:
        answer["content"] = {media_type: {} for media_type in media_types}
    return {status: answer}


def _polling(standing: Evaluation | Row[Any]) -> dict[str, str]:
    headers = {"ETag": f'W/"{standing.version}"', "Cache-Control": "private, no-cache"}
    return headers if standing.status in ENDED else {**headers, "Retry-After": _POLL_S}


class Picture(StrEnum):
    PLAIN = "plain"
    PROTECTED = "protected"
    RECONSTRUCTED = "reconstructed"


@router.post(
    "",
    status_code=202,
    response_model=EvaluationOut,
    responses=problems(
        Invalid,
        NoPairApplies,
        NoPlainImages,
        service.UnknownKey,
        service.KeyDestroyed,
        service.KeyNotReady,
        QueueFull,
        Mismatch,
        Running,
        Unavailable,
    ),
)
async def order_evaluation(
    order: EvaluationOrder, caller: Auditor, svc: Svc, session: Session, once: Idempotent, response: Response
) -> EvaluationOut:
    """Order an evaluation: every scheme under every attack. Poll `Location`, or follow `/events`."""
    async with once.reserve(evaluation=new_id("ev")) as ids:
        ordered = await service.order(session, svc, caller, order, ids["evaluation"])
        headers = {"Location": ordered.links["self"], "Retry-After": _POLL_S}
        await once.keep(session, ordered, status=202, headers=headers)
        failpoints.point("order-before-commit")
        await session.commit()
    failpoints.point("order-before-ring")
    await service.tell_workers(svc, ordered)
    failpoints.point("order-before-answer")
    response.headers.update(headers)
    return ordered


@router.get("")
async def list_evaluations(caller: Reader, session: Session, paging: EvaluationPaging) -> Page[EvaluationHead]:
    """Your evaluations, newest first, without their cells."""
    rows = await queries.evaluations(session, caller.account_id, paging)
    heads = await service.heads(session, rows[: paging.limit])
    return page(rows, paging, lambda row: heads[row.id], lambda row: row.id)


@router.get(
    "/{evaluation_id}",
    response_model=EvaluationOut,
    responses=_answers(304, "Unchanged since the ETag in If-None-Match") | problems(service.UnknownEvaluation),
)
async def show_evaluation(
    evaluation_id: EvaluationId,
    caller: Reader,
    svc: Svc,
    session: Session,
    response: Response,
    if_none_match: IfNoneMatch = None,
) -> EvaluationOut | Response:
    """One evaluation with its cells, results and verdicts."""
    if if_none_match is not None:
        headers = _polling(await service.standing(svc, caller, evaluation_id))
        if matches(if_none_match, headers["ETag"]):
            return Response(status_code=304, headers=headers)
    evaluation = await service.find(session, caller, evaluation_id)
    response.headers.update(_polling(evaluation))
    return await service.show(session, evaluation)


@router.post(
    "/{evaluation_id}/cancel",
    status_code=202,
    responses=problems(service.UnknownEvaluation, service.Ended),
)
async def cancel_evaluation(
    evaluation_id: EvaluationId, caller: Auditor, session: Session, response: Response
) -> EvaluationOut:
    """Stop it: cells that wait end now, those that run within seconds. What has finished is kept.

    Asked again it answers the same, also once it is `cancelled`; 409 where it has succeeded or failed.
    """
    evaluation = await service.cancel(session, caller, evaluation_id)
    response.headers.update({"Location": serializers.address(evaluation_id), "Retry-After": _POLL_S})
    return await service.show(session, evaluation)


@router.delete(
    "/{evaluation_id}",
    status_code=204,
    responses=problems(service.UnknownEvaluation, service.StillRunning),
)
async def delete_evaluation(evaluation_id: EvaluationId, caller: Auditor, session: Session) -> None:
    """Delete an ended evaluation with all its images and figures."""
    await service.delete(session, caller, evaluation_id)


@router.get(
    "/{evaluation_id}/events",
    response_class=StreamingResponse,
    responses=_answers(200, "Events of type progress, cell, metric and status; ids rise", "text/event-stream")
    | _answers(204, "Ended, and Last-Event-ID has seen the last event: do not reconnect")
    | problems(service.UnknownEvaluation, sse.TooManyStreams),
)
async def follow_evaluation(
    request: Request,
    evaluation_id: EvaluationId,
    caller: Reader,
    svc: Svc,
    session: Session,
    last_event_id: Annotated[int, Header(ge=0, lt=2**63, description="Go on after this event")] = 0,
    after: Annotated[int, Query(ge=0, lt=2**63, description="The same, for who cannot set the header")] = 0,
) -> Response:
    """Everything that happens to an evaluation, from its beginning or after `Last-Event-ID`."""
    evaluation = await service.find(session, caller, evaluation_id)
    seen = max(last_event_id, after)
    if sse.over(evaluation, seen):
        return Response(status_code=204)
    streams: sse.Streams = request.app.state.streams
    streams.check(caller.account_id)

    async def look() -> Row[Any] | None:
        """None once the evaluation is deleted or the caller may no longer read it."""
        still = await signed_in(request)
        if still is None or "read" not in still.scopes:
            return None
        return await queries.standing_of(svc.lookups, still.account_id, evaluation_id)

    return StreamingResponse(
        streams.held(caller.account_id, sse.stream(svc.sessions, evaluation_id, look, seen)),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.get(
    "/{evaluation_id}/report.{format}",
    response_class=Response,
    responses=_answers(200, "The report", *report.MEDIA_TYPES.values()) | problems(service.UnknownEvaluation),
)
async def show_report(
    evaluation_id: EvaluationId, format: report.Format, caller: Reader, svc: Svc, session: Session
) -> Response:
    """The report, as far as the evaluation has come: one self-contained HTML page, or JSON, CSV, Markdown, a zip."""
    evaluation = await service.find(session, caller, evaluation_id)
    content = await report.read(session, evaluation, format)
    disposition = "inline" if format is report.Format.HTML else "attachment"
    named = {"Content-Disposition": f'{disposition}; filename="{evaluation.id}.{format.value}"'}
    media_type, headers = report.MEDIA_TYPES[format], {**named, **report.HEADERS.get(format, {})}
    if format is report.Format.ZIP:
        return StreamingResponse(report.zipped(svc.sessions, content), media_type=media_type, headers=headers)
    return Response(await report.render(content, format), media_type=media_type, headers=headers)


@router.get("/{evaluation_id}/cells/{cell_id}/curve", responses=problems(service.UnknownPart))
async def show_curves(
    evaluation_id: EvaluationId, cell_id: CellId, caller: Reader, session: Session
) -> Mapping[str, list[list[float | None]]]:
    """Named curves of a cell: losses, SSIM by number of ciphertexts; `{"name": [[step, value], ...]}`."""
    cell = await service.find_cell(session, caller, evaluation_id, cell_id)
    return {curve.name: curve.points for curve in await queries.curves(session, [cell.id])}


@router.get(
    "/{evaluation_id}/cells/{cell_id}/scores.csv",
    response_class=Response,
    responses=_answers(200, "One line an image", "text/csv") | problems(service.UnknownPart),
)
async def show_scores(evaluation_id: EvaluationId, cell_id: CellId, caller: Reader, session: Session) -> Response:
    """Per image: index, ssim, psnr, rank in the identification gallery. Only the header before the cell is done."""
    cell = await service.find_cell(session, caller, evaluation_id, cell_id)
    return Response(await report.scores_csv(session, cell.id), media_type="text/csv")


@router.get(
    "/{evaluation_id}/cells/{cell_id}/samples/{index}/{picture}.png",
    response_class=Response,
    responses=_answers(200, "The image", "image/png") | problems(service.UnknownPart),
)
async def show_sample(
    evaluation_id: EvaluationId,
    cell_id: CellId,
    index: SampleIndex,
    picture: Picture,
    caller: Reader,
    session: Session,
) -> Response:
    """One stored image: plain, protected or reconstructed."""
    sample = await service.find_sample(session, caller, evaluation_id, cell_id, index)
    image: bytes | None = getattr(sample, picture.value)
    if image is None:
        raise service.UnknownPart(f"the plain image of sample {index} was never given")
    return Response(image, media_type="image/png", headers=_FOREVER)
