"""The dashboard: server-rendered pages over the same services as the API.

It signs in by a one-use link or a pasted token and then holds a session cookie. No inline script, no foreign origin;
a change must come from our own pages (`refuse_cross_site`, also for the sign-in itself).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.templating import Jinja2Templates
from starlette.responses import FileResponse, RedirectResponse, Response

from app.accounts import service as accounts
from app.accounts.service import BadSignInCode
from app.core.auth import SESSION_COOKIE, Caller, MaybeCaller, caller_of_token, count_stranger, refuse_cross_site
from app.core.pagination import Paging, page
from app.core.problems import NotFound
from app.core.services import Session, Svc
from app.dashboard import heat
from app.evaluations import queries, service, views

router = APIRouter(include_in_schema=False)
_HERE = Path(__file__).parent
_templates = Jinja2Templates(_HERE / "templates")
_templates.env.globals.update(heat=heat)
_STATIC = {"unveil.css": "text/css", "live.js": "text/javascript", "icon.svg": "image/svg+xml"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


@router.get("/")
async def show_evaluations(request: Request, caller: MaybeCaller, session: Session, paging: Paging) -> Response:
    """The evaluations of the account, newest first."""
    if caller is None or "read" not in caller.scopes:
        return _redirect("/sign-in")
    rows = await queries.evaluations(session, caller.account_id, paging)
    cells = await service.listed(session, rows[: paging.limit])
    shown = page(rows, paging, lambda row: views.head(row, cells[row.id]), lambda row: row.id)
    return _page(request, "evaluations.html", caller, evaluations=shown.items, next=shown.next)


@router.get("/dashboard/evaluations/{id}")
async def show_evaluation(
    request: Request, id: str, caller: MaybeCaller, session: Session, part: Annotated[bool, Query()] = False
) -> Response:
    """One evaluation; `part` leaves the frame out, for the page that is open already."""
    if caller is None or "read" not in caller.scopes:
        return _redirect("/sign-in")
    try:
        evaluation = await service.show(session, await service.find(session, caller, id))
    except NotFound as problem:
        return _page(request, "message.html", caller, status=404, title="Not found", text=problem.detail)
    template = "evaluation-part.html" if part else "evaluation.html"
    return _page(request, template, caller, evaluation=evaluation, table=heat.table(evaluation))


@router.get("/sign-in")
async def show_sign_in(
    request: Request, svc: Svc, session: Session, code: Annotated[str, Query(max_length=200)] = ""
) -> Response:
    """The sign-in form; with a one-use code, the sign-in itself."""
    if not code:
        return _page(request, "sign-in.html", None)
    try:
        cookie = await accounts.open_session(session, svc.ring, code)
    except BadSignInCode:
        await count_stranger(request)
        text = "This link was used already or is too old. Paste your token, or make a new link."
        return _page(request, "sign-in.html", None, status=401, error=text)
    return _signed_in(request, cookie)


@router.post("/sign-in")
async def sign_in(
    request: Request, svc: Svc, session: Session, token: Annotated[str, Form(max_length=200)] = ""
) -> Response:
    """Sign in by a token; the session gets its scopes."""
    refuse_cross_site(request)
    caller = await caller_of_token(session, svc.ring, token.strip())
    if caller is None:
        await count_stranger(request)
        return _page(request, "sign-in.html", None, status=401, error="This token is unknown or revoked.")
    scopes = sorted(caller.scopes)
    return _signed_in(request, await accounts.open_session_of_token(session, svc.ring, caller.account_id, scopes))


@router.post("/sign-out")
async def sign_out(request: Request, svc: Svc, session: Session) -> Response:
    refuse_cross_site(request)
    cookie = request.cookies.get(SESSION_COOKIE)
    if cookie:
        await accounts.close_session(session, svc.ring, cookie)
    response = _redirect("/sign-in")
    response.delete_cookie(SESSION_COOKIE)
    return response


@router.post("/dashboard/evaluations/{id}/cancel")
async def cancel_evaluation(id: str, caller: MaybeCaller, session: Session) -> Response:
    if caller is None or "evaluate" not in caller.scopes:
        return _redirect("/sign-in")
    try:
        await service.cancel(session, caller, id)
    except (NotFound, service.Ended):  # the page that follows shows how it stands
        await session.rollback()
    return _redirect(f"/dashboard/evaluations/{id}")


@router.get("/static/{name}")
async def show_static(name: str) -> Response:
    if name not in _STATIC:
        raise NotFound(f"there is no file {name!r}")
    headers = {"Cache-Control": "public, max-age=300", "X-Content-Type-Options": "nosniff"}
    return FileResponse(_HERE / "static" / name, media_type=_STATIC[name], headers=headers)


def _page(request: Request, template: str, caller: Caller | None, *, status: int = 200, **context: Any) -> Response:
    return _templates.TemplateResponse(
        request, template, {"caller": caller, **context}, status_code=status, headers=_HEADERS
    )


def _signed_in(request: Request, cookie: str) -> Response:
    response = _redirect("/")
    response.set_cookie(
        SESSION_COOKIE,
        cookie,
        max_age=accounts.SESSION_HOURS * 3600,
        httponly=True,
        samesite="lax",  # a link in a terminal or a mail must find its session
        secure=request.url.scheme == "https",
    )
    return response


def _redirect(path: str) -> RedirectResponse:
    return RedirectResponse(path, status_code=303, headers=_HEADERS)
