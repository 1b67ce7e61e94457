"""Pages behind a share link: one evaluation, to be read by everybody who has the link. No other route takes its secret.

Every response forbids caches, search engines and a `Referer` header: the address is the secret.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from starlette.responses import JSONResponse, Response

from unveil.app.dashboard.cells import (
    ImageIndex,
    ImageOrder,
    Order,
    PageNumber,
    View,
    render_cell,
    render_image,
)
from unveil.app.dashboard.evaluations import render_evaluation
from unveil.app.dashboard.rendering import PageRoute
from unveil.app.dependencies import AppStateDep, Session
from unveil.app.errors.problem import NotFound
from unveil.app.evaluations import images, queries, report_data, service
from unveil.app.evaluations.images import ImageKind
from unveil.app.evaluations.report_response import build_report_response
from unveil.app.evaluations.routes import SampleIndex
from unveil.app.http.authentication import rate_limit_anonymous
from unveil.app.report.evaluation import Evaluation
from unveil.app.report.formats import Format
from unveil.app.shares import service as shares
from unveil.app.shares.service import SharedEvaluation, hide_other_ids

_HEADERS = {
    "Cache-Control": "private, no-store",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow",
    "X-Content-Type-Options": "nosniff",
}


class SharedRoute(PageRoute):
    """Adds the headers to every response, that of a problem too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            response = await handler(request)
            response.headers.update(_HEADERS)
            return response

        return handle


router = APIRouter(prefix="/shared/{secret}", route_class=SharedRoute)


async def _find_shared(
    request: Request, app_state: AppStateDep, session: Session, secret: Annotated[str, Path(max_length=100)]
) -> SharedEvaluation:
    """Counts the request against the link, or against the address if there is no such link."""
    found = await shares.find(session, app_state.keyring, secret)
    if found is None:
        await rate_limit_anonymous(request)
        raise NotFound("this link has expired, was revoked, or never existed; ask the person who sent it for another")
    id, shared = found
    await app_state.rate_limiter.hit(f"share:{id}", app_state.settings.requests_per_second, "a share link")
    return shared


Shared = Annotated[SharedEvaluation, Depends(_find_shared)]


async def _load(request: Request, session: Session, shared: Shared) -> Evaluation:
    evaluation = await service.get_view(session, shared.row)
    return hide_other_ids(evaluation, _address(request), with_images=shared.images)


def _address(request: Request) -> str:
    return f"/shared/{request.path_params['secret']}"


@router.get("")
async def show_shared_evaluation(request: Request, session: Session, shared: Shared) -> Response:
    evaluation = await _load(request, session, shared)
    return await render_evaluation(request, None, session, evaluation, _address(request), shared=shared)


@router.get("/report.{format}")
async def get_shared_report(format: Format, app_state: AppStateDep, session: Session, shared: Shared) -> Response:
    evaluation = hide_other_ids(await service.get_view(session, shared.row), with_images=shared.images)
    return await build_report_response(app_state, session, shared.row, evaluation, format, with_images=shared.images)


async def _find_cell(request: Request, session: Session, shared: Shared, cell_id: str) -> View:
    evaluation = await _load(request, session, shared)
    cell, address = service.find_cell(evaluation, cell_id), _address(request)
    return View(evaluation, cell, None, address, address, with_images=shared.images)


SharedCell = Annotated[View, Depends(_find_cell)]


@router.get("/cells/{cell_id}")
async def show_shared_cell(
    request: Request,
    session: Session,
    view: SharedCell,
    order: Order = ImageOrder.BEST,
    page: PageNumber = 1,
    image: ImageIndex = None,
) -> Response:
    return await render_cell(request, session, view, order, page, image)


@router.get("/cells/{cell_id}/images/{index}")
async def show_shared_image(
    request: Request,
    session: Session,
    app_state: AppStateDep,
    view: SharedCell,
    index: SampleIndex,
    order: Order = ImageOrder.BEST,
) -> Response:
    if not view.with_images:
        raise _no_images()
    return await render_image(request, session, view, index, order, app_state.settings.cell_images_bytes)


@router.get("/cells/{cell_id}/curve")
async def get_shared_curves(cell_id: str, session: Session, shared: Shared) -> Response:
    cell = await service.get_cell(session, shared.reader, shared.row.id, cell_id)
    return JSONResponse({curve.name: curve.points for curve in await queries.list_curves(session, [cell.id])})


@router.get("/cells/{cell_id}/scores.csv")
async def get_shared_scores(cell_id: str, session: Session, shared: Shared) -> Response:
    cell = await service.get_cell(session, shared.reader, shared.row.id, cell_id)
    return Response(await report_data.scores_csv(session, cell.id), media_type="text/csv")


@router.get("/cells/{cell_id}/samples/{index}/{picture}.png")
async def get_shared_sample(
    cell_id: str, index: SampleIndex, picture: ImageKind, session: Session, shared: Shared
) -> Response:
    if not shared.images:
        raise _no_images()
    cell = await service.get_cell(session, shared.reader, shared.row.id, cell_id)
    return Response(await images.read_image(session, cell.id, index, picture), media_type="image/png")


@router.get("/cells/{cell_id}/gallery/{number}.png")
async def get_shared_gallery_image(cell_id: str, number: SampleIndex, session: Session, shared: Shared) -> Response:
    if not shared.images:
        raise _no_images()
    cell = await service.get_cell(session, shared.reader, shared.row.id, cell_id)
    return Response(await images.read_gallery_image(session, cell.id, number), media_type="image/png")


def _no_images() -> NotFound:
    return NotFound("this link shows no images")
