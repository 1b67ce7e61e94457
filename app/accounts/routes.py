"""POST, GET, PATCH, DELETE /accounts: who may use the service. For administrators; `unveil accounts` does the same."""

from __future__ import annotations

from fastapi import APIRouter

from unveil.app.accounts import service
from unveil.app.accounts.schemas import AccountCreate, AccountCreated, AccountOut, AccountUpdate
from unveil.app.db.ids import new_id
from unveil.app.dependencies import AppStateDep, Session
from unveil.app.errors.problem import AccountExists, IdempotencyMismatch, IdempotencyRunning, OwnAccount, UnknownAccount
from unveil.app.http.authentication import AdminPrincipal, AuthenticatedRoute
from unveil.app.http.idempotency import IdempotencyDep
from unveil.app.http.pagination import AccountPaging, Page
from unveil.app.http.problems import problems

router = APIRouter(tags=["accounts"], route_class=AuthenticatedRoute)


@router.post("/accounts", status_code=201, responses=problems(AccountExists, IdempotencyRunning, IdempotencyMismatch))
async def create_account(
    body: AccountCreate, _: AdminPrincipal, app_state: AppStateDep, session: Session, idempotency: IdempotencyDep
) -> AccountCreated:
    """Create an account. Only this response contains its bearer token."""
    async with idempotency.begin(id=new_id("acct")) as ids:
        account = await service.create(
            session,
            app_state.keyring,
            body.name,
            body.scopes,
            id=ids["id"],
            max_cost_core_hours=body.max_cost_core_hours,
        )
        await idempotency.store_response(session, account, status=201, secret=True)
        await session.commit()
        return account


@router.get("/accounts")
async def list_accounts(_: AdminPrincipal, session: Session, paging: AccountPaging) -> Page[AccountOut]:
    """All accounts, newest first, including revoked accounts."""
    return await service.list_accounts(session, paging)


@router.patch("/accounts/{account}", responses=problems(UnknownAccount))
async def update_account(account: str, body: AccountUpdate, _: AdminPrincipal, session: Session) -> AccountOut:
    """Set the quota of an account, by id or name. Queued and running jobs are not affected."""
    return await service.set_quota(session, account, body.max_cost_core_hours)


@router.delete("/accounts/{account}", status_code=204, responses=problems(UnknownAccount, OwnAccount))
async def revoke_account(account: str, principal: AdminPrincipal, session: Session) -> None:
    """Revoke an account by id or name: its tokens, dashboard sessions and jobs end at once. Its resources are kept."""
    await service.revoke(session, account, by=principal.account_id)
