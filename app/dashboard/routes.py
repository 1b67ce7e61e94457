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
from unveil.app.dashboard.rendering import HERE, PageRoute, own_path, page, redirect
from unveil.app.dependencies import Session, Svc
from unveil.app.errors.problem import NotFound
from unveil.app.http.authentication import SESSION_COOKIE, Needs, caller_of_token, count_stranger, refuse_cross_site

router = APIRouter(include_in_schema=False, route_class=PageRoute)
# the form before /dashboard/evaluations/{id}, which would take `new` for an id
for pages in (
    evaluation_form.pages,
    evaluation_form.calls,
    evaluations.router,
    playground.router,
    keys_and_datasets.router,
    keys_and_datasets.calls,
):
    router.include_router(pages)

_STATIC = {
    path.name: {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}[path.suffix]
    for path in (HERE / "static").iterdir()
}


@router.get("/sign-in")
async def show_sign_in(
    request: Request,
    svc: Svc,
    session: Session,
    code: Annotated[str, Query(max_length=200)] = "",
    next: Annotated[str, Query(max_length=500)] = "/",
) -> Response:
    """The sign-in form; with a one-use code, the sign-in itself."""
    if not code:
        return page(request, "sign-in.html", None, error=None, next=own_path(next))
    try:
        cookie = await accounts.open_session(session, svc.ring, code)
    except BadSignInCode:
        await count_stranger(request)
        text = "This link was used already or is too old. Paste your token, or make a new link."
        return page(request, "sign-in.html", None, status=401, error=text, next=own_path(next))
    return _signed_in(request, cookie, next)


@router.post("/sign-in")
async def sign_in(
    request: Request,
    svc: Svc,
    session: Session,
    token: Annotated[str, Form(max_length=200)] = "",
    next: Annotated[str, Form(max_length=500)] = "/",
) -> Response:
    """Sign in by a token; the session gets its scopes."""
    refuse_cross_site(request)
    caller = await caller_of_token(svc, token.strip())
    if caller is None:
        await count_stranger(request)
        error = "This token is unknown or revoked."
        return page(request, "sign-in.html", None, status=401, error=error, next=own_path(next))
    scopes = sorted(caller.scopes)
    cookie = await accounts.open_session_of_token(session, svc.ring, caller.account_id, scopes)
    return _signed_in(request, cookie, next)


@router.post("/sign-out")
async def sign_out(request: Request, svc: Svc, session: Session) -> Response:
    refuse_cross_site(request)
    cookie = request.cookies.get(SESSION_COOKIE)
    if cookie:
        await accounts.close_session(session, svc.ring, cookie)
    response = redirect("/sign-in")
    response.delete_cookie(SESSION_COOKIE)
    return response


@router.get("/static/{name}")
async def show_static(name: str) -> Response:
    if name not in _STATIC:
        raise NotFound(f"there is no file {name!r}")
    headers = {"Cache-Control": "public, max-age=300", "X-Content-Type-Options": "nosniff"}
    return FileResponse(HERE / "static" / name, media_type=_STATIC[name], headers=headers)


@router.get("/dashboard/{path:path}", dependencies=[Depends(Needs(("read",)))])  # after all others
async def show_nothing(path: str) -> Response:
    raise NotFound(f"there is no page {path!r}")


def _signed_in(request: Request, cookie: str, next: str) -> Response:
    response = redirect(own_path(next))
    response.set_cookie(
        SESSION_COOKIE,
        cookie,
        max_age=accounts.SESSION_HOURS * 3600,
        httponly=True,
        samesite="lax",  # a link in a terminal or a mail must find its session
        secure=request.url.scheme == "https",
    )
    return response
