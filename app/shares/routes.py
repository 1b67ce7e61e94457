"""POST, GET, DELETE /evaluations/{id}/shares: links that let everybody who has them read one evaluation."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from unveil.app.db.ids import new_id
from unveil.app.dependencies import AppStateDep, Session
from unveil.app.errors.problem import Conflict, IdempotencyMismatch, IdempotencyRunning, NotFound, UnknownEvaluation
from unveil.app.http.authentication import AuthenticatedRoute, EvaluatePrincipal, ReadPrincipal
from unveil.app.http.idempotency import IdempotencyDep
from unveil.app.http.problems import problems
from unveil.app.shares import service
from unveil.app.shares.schemas import ShareCreate, ShareCreated, ShareList

router = APIRouter(prefix="/evaluations/{evaluation_id}/shares", tags=["evaluations"], route_class=AuthenticatedRoute)

EvaluationId = Annotated[str, Path(examples=["ev_0197f3c2a5d17a3b8c4d5e6f708192a3"])]
ShareId = Annotated[str, Path(examples=["share_0197f3c2a5d17a3b8c4d5e6f708192a3"])]


@router.post(
    "", status_code=201, responses=problems(UnknownEvaluation, Conflict, IdempotencyRunning, IdempotencyMismatch)
)
async def create_share(
    evaluation_id: EvaluationId,
    body: ShareCreate,
    principal: EvaluatePrincipal,
    app_state: AppStateDep,
    session: Session,
    idempotency: IdempotencyDep,
) -> ShareCreated:
    """Make a link with which everybody can read this evaluation, without an account, until it expires.

    Its pages and reports show the name, tags and notes of the evaluation and the name of the account, and no id of a
    key, a dataset or another evaluation. The secret is in this answer only.
    """
    async with idempotency.begin(id=new_id("share")) as ids:
        share = await service.create(session, app_state.keyring, principal, evaluation_id, body, ids["id"])
        await idempotency.store_response(session, share, status=201, secret=True)
        await session.commit()
        return share


@router.get("", responses=problems(UnknownEvaluation))
async def list_shares(evaluation_id: EvaluationId, principal: ReadPrincipal, session: Session) -> ShareList:
    """The share links of an evaluation that have not expired, newest first, without their secrets."""
    return ShareList(items=await service.list_shares(session, principal, evaluation_id))


@router.delete("/{share_id}", status_code=204, responses=problems(UnknownEvaluation, NotFound))
async def revoke_share(
    evaluation_id: EvaluationId, share_id: ShareId, principal: EvaluatePrincipal, session: Session
) -> None:
    """End a share link at once."""
    await service.revoke(session, principal, evaluation_id, share_id)
