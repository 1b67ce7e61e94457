"""The page of the board."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response

from unveil.app.board import service
from unveil.app.board.plot import build_plot
from unveil.app.dashboard.rendering import PageRoute, render_page
from unveil.app.dependencies import Session
from unveil.app.http.authentication import ReadPrincipal
from unveil.app.report.board import BoardRow, ThreatModelFigures
from unveil.models.core.profiles import PROFILES
from unveil.models.core.verdict_rules.types import THREAT_MODELS

router = APIRouter(route_class=PageRoute)


@router.get("/dashboard/board")
async def show_board(
    request: Request,
    principal: ReadPrincipal,
    session: Session,
    dataset: str = "",
    profile: str = "",
    threat_model: str = "",
) -> Response:
    """Blank parameters are those that the form leaves open."""
    board = await service.get_board(
        session,
        principal,
        dataset or None,
        next((name for name in PROFILES if name == profile), None),
        threat_model or None,
    )
    chosen = {"dataset": dataset, "profile": board.profile, "threat_model": threat_model}
    query = urlencode({name: value for name, value in chosen.items() if value})
    return render_page(
        request,
        "board.html",
        principal,
        board=board,
        threat_models=THREAT_MODELS,
        query=f"?{query}" if query else "",
        plot=build_plot(board, _row_link),
        row_link=_row_link,
        cell_link=_cell_link,
    )


def _row_link(row: BoardRow) -> str:
    return f"/dashboard/evaluations/{row.evaluation}"


def _cell_link(_: BoardRow, figures: ThreatModelFigures) -> str:
    return f"/dashboard/evaluations/{figures.evaluation}/cells/{figures.cell}"
