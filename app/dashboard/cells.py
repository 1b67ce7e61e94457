"""Pages of a cell: its figures with all attacked images, a page at a time, and one image with its line-up."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Query, Request
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from unveil.app.dashboard import queries
from unveil.app.dashboard.rendering import PageRoute, redirect, render_page
from unveil.app.db.job_states import ACTIVE
from unveil.app.dependencies import AppStateDep, Session
from unveil.app.evaluations import images, service
from unveil.app.evaluations import queries as rows
from unveil.app.evaluations.images import AttackedImage
from unveil.app.evaluations.schemas import AttackedImageOut
from unveil.app.http.authentication import ReadPrincipal
from unveil.app.report import charts
from unveil.app.report.evaluation import Cell, Evaluation
from unveil.app.report.table import EvaluationTable
from unveil.app.security.principal import Principal
from unveil.models import catalog

router = APIRouter(route_class=PageRoute)
IMAGES_PER_PAGE = 12  # three requests each: below the rate limit of an account, even for a reader who turns pages fast
_MAX_INDEX = 2**31 - 1


class ImageOrder(StrEnum):
    """Which images come first."""

    BEST = "best"
    WORST = "worst"
    RANK = "rank"
    NUMBER = "number"
    RANDOM = "random"


_ORDER_LABELS = {
    ImageOrder.BEST: "Leaking first, then highest SSIM",
    ImageOrder.WORST: "Lowest SSIM first",
    ImageOrder.RANK: "Best rank first",
    ImageOrder.NUMBER: "By number",
    ImageOrder.RANDOM: "Random",
}
Order = Annotated[ImageOrder, Query()]
PageNumber = Annotated[int, Query(ge=1, le=_MAX_INDEX)]
ImageIndex = Annotated[int | None, Query(ge=0, le=_MAX_INDEX)]


@dataclass(frozen=True)
class View:
    """Who looks at a cell, and where its page is. principal: None for the reader of a share link."""

    evaluation: Evaluation
    cell: Cell
    principal: Principal | None
    page: str
    """Address of the page of the evaluation"""
    api: str
    """Address below which the API serves its images"""
    with_images: bool = True

    @property
    def path(self) -> str:
        return f"{self.page}/cells/{self.cell.id}"

    @property
    def image_path(self) -> str:
        return f"{self.api}/cells/{self.cell.id}"


async def _view(session: AsyncSession, principal: Principal, id: str, cell_id: str) -> View:
    evaluation = await service.get_view(session, await service.get(session, principal, id))
    cell = service.find_cell(evaluation, cell_id)
    return View(evaluation, cell, principal, f"/dashboard/evaluations/{id}", f"/evaluations/{id}")


@router.get("/dashboard/evaluations/{id}/cells/{cell_id}")
async def show_cell(
    request: Request,
    id: str,
    cell_id: str,
    principal: ReadPrincipal,
    session: Session,
    order: Order = ImageOrder.BEST,
    page: PageNumber = 1,
    image: ImageIndex = None,
) -> Response:
    """One scheme under one attack: figures, curves, settings, and a page of its images. image: one to go to."""
    view = await _view(session, principal, id, cell_id)
    return await render_cell(request, session, view, order, page, image)


@router.get("/dashboard/evaluations/{id}/cells/{cell_id}/images/{index}")
async def show_image(
    request: Request,
    id: str,
    cell_id: str,
    index: int,
    principal: ReadPrincipal,
    session: Session,
    app_state: AppStateDep,
    order: Order = ImageOrder.BEST,
) -> Response:
    """One attacked image: original, protected, reconstructed, their difference, and the line-up."""
    view = await _view(session, principal, id, cell_id)
    return await render_image(request, session, view, index, order, app_state.settings.cell_images_bytes)


async def render_cell(
    request: Request, session: AsyncSession, view: View, order: ImageOrder, page: int, image: int | None
) -> Response:
    if image is not None:
        return redirect(f"{view.path}/images/{image}?order={order}")
    evaluation, cell = view.evaluation, view.cell
    ids = [each.id for each in evaluation.cells]
    position = ids.index(cell.id)
    found = await _list_images(session, view)
    ordered = _sort(found, order, cell)
    pages = max(1, math.ceil(len(ordered) / IMAGES_PER_PAGE))
    page = min(page, pages)
    scores = await rows.get_scores(session, cell.id)
    if cell.status in ACTIVE:
        points_by_curve = (await queries.get_running_curves(session, evaluation.id, [cell.id])).get(cell.id, {})
    else:
        points_by_curve = {curve.name: curve.points for curve in await rows.list_curves(session, [cell.id])}
    return render_page(
        request,
        "cell.html",
        view.principal,
        evaluation=evaluation,
        view=view,
        cell=cell,
        titles=EvaluationTable(evaluation).cell_titles,
        before=ids[position - 1] if position else None,
        after=ids[position + 1] if position + 1 < len(ids) else None,
        attack=catalog.describe_attack(name) if (name := cell.attack["name"]) in catalog.registered_attacks() else None,
        profile=evaluation.settings["profile"],
        images=ordered[(page - 1) * IMAGES_PER_PAGE : page * IMAGES_PER_PAGE],
        attacked=len(found),
        stored=sum(bool(each.stored) for each in found),
        page=page,
        last_page=pages,
        order=order.value,
        orders={each.value: _label(each, found) for each in _offered_orders(found)},
        histogram=charts.build_histogram(scores.ssim) if scores else None,
        curves=charts.build_curve_charts(points_by_curve),
    )


async def render_image(
    request: Request, session: AsyncSession, view: View, index: int, order: ImageOrder, limit_bytes: int
) -> Response:
    """limit_bytes: up to which cells store images today. Raises NotFound."""
    cell = view.cell
    found = await _list_images(session, view)
    image = images.find_image(found, index)
    described = await images.describe_image(session, view.evaluation.id, cell, image, view.image_path)
    indices = [each.index for each in _sort(found, order, cell)]
    position = indices.index(index)
    return render_page(
        request,
        "image.html",
        view.principal,
        evaluation=view.evaluation,
        view=view,
        cell=cell,
        image=described,
        stored=_stored_images(cell, described),
        count=len(found),
        position=position,
        page=position // IMAGES_PER_PAGE + 1,
        before=indices[position - 1] if position else None,
        after=indices[position + 1] if position + 1 < len(indices) else None,
        order=order.value,
        order_label=_label(order, found),
        limit_bytes=limit_bytes,
        profile=view.evaluation.settings["profile"],
        mode=cell.result.ssim.mode if cell.result and cell.result.ssim else None,
    )


def _stored_images(cell: Cell, image: AttackedImageOut) -> dict[str, tuple[str, str]]:
    """Caption and address of what is stored, by name."""
    reconstructed = "unchanged" if cell.attack["name"] == "none" else "reconstructed"
    captions = {"plain": "original", "protected": "protected", "reconstructed": reconstructed}
    paths = {name: getattr(image, name) for name in captions}
    return {name: (captions[name], path) for name, path in paths.items() if path is not None}


async def _list_images(session: AsyncSession, view: View) -> list[AttackedImage]:
    if not view.with_images or view.cell.result is None:
        return []
    return await images.list_images(session, view.evaluation.id, view.cell)


def _offered_orders(found: Sequence[AttackedImage]) -> list[ImageOrder]:
    """Without the orders of scores that no image has."""
    missing = {ImageOrder.WORST} if all(each.ssim is None for each in found) else set()
    missing |= {ImageOrder.RANK} if all(each.rank is None for each in found) else set()
    return [order for order in ImageOrder if order not in missing]


def _label(order: ImageOrder, found: Sequence[AttackedImage]) -> str:
    without_ssim = order is ImageOrder.BEST and all(each.ssim is None for each in found)
    return "Leaking images first" if without_ssim else _ORDER_LABELS[order]


def _sort(found: Sequence[AttackedImage], order: ImageOrder, cell: Cell) -> list[AttackedImage]:
    """found: in the order of their numbers. The random order is the same for every page of a cell."""
    if order is ImageOrder.NUMBER:
        return list(found)
    if order is ImageOrder.RANDOM:
        return random.Random(cell.id).sample(found, len(found))
    if order is ImageOrder.WORST:
        return sorted(found, key=lambda each: math.inf if each.ssim is None else each.ssim)
    if order is ImageOrder.RANK:
        return sorted(found, key=lambda each: (_rank(each), -_ssim(each)))
    certainty = {index: number for number, index in enumerate(cell.leaking_images)}
    return sorted(found, key=lambda each: (certainty.get(each.index, len(certainty)), -_ssim(each), _rank(each)))


def _rank(image: AttackedImage) -> float:
    return math.inf if image.rank is None else image.rank


def _ssim(image: AttackedImage) -> float:
    return -math.inf if image.ssim is None else image.ssim
