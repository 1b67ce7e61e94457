"""GET /board: schemes compared across the caller's evaluations of one dataset, as JSON, CSV, LaTeX or BibTeX."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from unveil.app.board import formats, service
from unveil.app.board.formats import BoardFormat
from unveil.app.dependencies import Session
from unveil.app.http.authentication import AuthenticatedRoute, ReadPrincipal
from unveil.app.report.board import Board
from unveil.models.catalog import Profile

router = APIRouter(tags=["board"], route_class=AuthenticatedRoute)

Dataset = Annotated[
    str | None,
    Query(max_length=200, description="Name or SHA-256; left out: the dataset with the most evaluations"),
]
ProfileFilter = Annotated[Profile | None, Query(description="Only evaluations of this profile")]
ThreatModel = Annotated[str | None, Query(max_length=200, description="Only the worst case under this threat model")]


@router.get("/board")
async def get_board(
    principal: ReadPrincipal,
    session: Session,
    dataset: Dataset = None,
    profile: ProfileFilter = None,
    threat_model: ThreatModel = None,
) -> Board:
    """One row for each scheme and settings: the worst case over the account's finished evaluations of a dataset.

    Verdicts of earlier rules are left out. Evaluations join the board when it is read, a few at a time:
    ask again while `pending` is above 0.
    """
    return await service.get_board(session, principal, dataset, profile, threat_model)


@router.get(
    "/board.{format}",
    response_class=Response,
    responses={200: {"description": "The board", "content": {kind: {} for kind in formats.MEDIA_TYPES.values()}}},
)
async def export_board(
    format: BoardFormat,
    principal: ReadPrincipal,
    session: Session,
    dataset: Dataset = None,
    profile: ProfileFilter = None,
    threat_model: ThreatModel = None,
) -> Response:
    """The board as CSV, as a LaTeX table, or as BibTeX."""
    board = await service.get_board(session, principal, dataset, profile, threat_model)
    headers = {"Content-Disposition": f'attachment; filename="board.{format.value}"'}
    return Response(formats.render(board, format), media_type=formats.MEDIA_TYPES[format], headers=headers)
