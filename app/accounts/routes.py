"""POST, GET, DELETE /accounts: who may use the service. For administrators; `unveil accounts` does the same."""

from __future__ import annotations

from fastapi import APIRouter

from unveil.app.accounts import service
from unveil.app.accounts.schemas import AccountCreated, AccountOrder, AccountOut
from unveil.app.db.ids import new_id
from unveil.app.dependencies import Session, Svc
from unveil.app.http.authentication import Admin, CallerFirst
from unveil.app.http.idempotency import Idempotent, Mismatch, Running
from unveil.app.http.pagination import AccountPaging, Page
from unveil.app.http.problems import problems

router = APIRouter(tags=["accounts"], route_class=CallerFirst)


@router.post("/accounts", status_code=201, responses=problems(service.AccountExists, Running, Mismatch))
async def create_account(order: AccountOrder, _: Admin, svc: Svc, session: Session, once: Idempotent) -> AccountCreated:
    """Make an account. Its bearer token is in this answer and nowhere else."""
    async with once.reserve(id=new_id("acct")) as ids:
        made = await service.create(session, svc.ring, order.name, order.scopes, id=ids["id"])
        await once.keep(session, made, status=201, secret=True)
        await session.commit()
        return made


@router.get("/accounts")
async def list_accounts(_: Admin, session: Session, paging: AccountPaging) -> Page[AccountOut]:
    """Every account, newest first, revoked ones too."""
    return await service.list_accounts(session, paging)


@router.delete("/accounts/{account}", status_code=204, responses=problems(service.UnknownAccount, service.OwnAccount))
async def revoke_account(account: str, caller: Admin, session: Session) -> None:
    """Revoke an account by id or name: its tokens and dashboard sessions end at once. What it owns stays."""
    await service.revoke(session, account, by=caller.account_id)
