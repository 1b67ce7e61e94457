"""The dashboard: server-rendered pages over the same services as the API.

It signs in by a one-use link or a pasted token and then holds a session cookie, which the scripts' calls of the API use
too. No inline script, no foreign origin; a change must come from our own pages (`refuse_cross_site`, also for the
sign-in itself).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query, Request
from starlette.responses import FileResponse, Response

from unveil.app.accounts import service as accounts
from unveil.app.accounts.service import BadSignInCode
from unveil.app.dashboard import evaluation_form, evaluations, keys_and_datasets, playground
from unveil.app.dashboard.rendering import DASHBOARD_DIR, PageRoute, redirect, render_page, safe_redirect_path
from unveil.app.dependencies import AppStateDep, Session
from unveil.app.errors.problem import NotFound
from unveil.app.http.authentication import (
    SESSION_COOKIE,
    RequireScopes,
    principal_from_token,
    rate_limit_anonymous,
    reject_cross_site,
)

router = APIRouter(include_in_schema=False, route_class=PageRoute)
# the form before /dashboard/evaluations/{id}, which would take `new` for an id
for sub_router in (
    evaluation_form.page_router,
    evaluation_form.api_router,
    evaluations.router,
    playground.router,
    keys_and_datasets.page_router,
    keys_and_datasets.api_router,
):
    router.include_router(sub_router)

_STATIC_MEDIA_TYPES = {
    path.name: {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}[path.suffix]
    for path in (DASHBOARD_DIR / "static").iterdir()
}


@router.get("/sign-in")
async def show_sign_in(
    request: Request,
    app_state: AppStateDep,
    session: Session,
    code: Annotated[str, Query(max_length=200)] = "",
    next: Annotated[str, Query(max_length=500)] = "/",
) -> Response:
    """The sign-in form; with a one-use code, the sign-in itself."""
    if not code:
        return render_page(request, "sign-in.html", None, error=None, next=safe_redirect_path(next))
    try:
        cookie = await accounts.open_session(session, app_state.keyring, code)
    except BadSignInCode:
        await rate_limit_anonymous(request)
        text = "This link was used already or is too old. Paste your token, or make a new link."
        return render_page(request, "sign-in.html", None, status=401, error=text, next=safe_redirect_path(next))
    return _start_session(request, cookie, next)


@router.post("/sign-in")
async def sign_in(
    request: Request,
    app_state: AppStateDep,
    session: Session,
    token: Annotated[str, Form(max_length=200)] = "",
    next: Annotated[str, Form(max_length=500)] = "/",
) -> Response:
    """Sign in by a token; the session gets its scopes."""
    reject_cross_site(request)
    principal = await principal_from_token(app_state, token.strip())
    if principal is None:
        await rate_limit_anonymous(request)
        error = "This token is unknown or revoked."
        return render_page(request, "sign-in.html", None, status=401, error=error, next=safe_redirect_path(next))
    scopes = sorted(principal.scopes)
    cookie = await accounts.open_session_for_account(session, app_state.keyring, principal.account_id, scopes)
    return _start_session(request, cookie, next)


@router.post("/sign-out")
async def sign_out(request: Request, app_state: AppStateDep, session: Session) -> Response:
    reject_cross_site(request)
    cookie = request.cookies.get(SESSION_COOKIE)
    if cookie:
        await accounts.close_session(session, app_state.keyring, cookie)
    response = redirect("/sign-in")
    response.delete_cookie(SESSION_COOKIE)
    return response


@router.get("/static/{name}")
async def show_static(name: str) -> Response:
    if name not in _STATIC_MEDIA_TYPES:
        raise NotFound(f"there is no file {name!r}")
    headers = {"Cache-Control": "public, max-age=300", "X-Content-Type-Options": "nosniff"}
    return FileResponse(DASHBOARD_DIR / "static" / name, media_type=_STATIC_MEDIA_TYPES[name], headers=headers)


@router.get("/dashboard/{path:path}", dependencies=[Depends(RequireScopes(("read",)))])  # after all others
async def page_not_found(path: str) -> Response:
    raise NotFound(f"there is no page {path!r}")


def _start_session(request: Request, cookie: str, next: str) -> Response:
    response = redirect(safe_redirect_path(next))
    response.set_cookie(
        SESSION_COOKIE,
        cookie,
        max_age=accounts.SESSION_HOURS * 3600,
        httponly=True,
        samesite="lax",  # a link in a terminal or a mail must find its session
        secure=request.url.scheme == "https",
    )
    return response
