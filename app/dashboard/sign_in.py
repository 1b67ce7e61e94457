"""Sign-in to the dashboard: by bearer token, or by a one-use link whose page must be confirmed.

GET never signs anybody in: a mail scanner that opens the link does not spend its code, and another site that embeds
the link does not replace the visitor's session. The confirmation is a POST from our own page with a CSRF token.
"""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import Response

from unveil.app.accounts import service as accounts
from unveil.app.dashboard.rendering import PageRoute, redirect, render_page, safe_redirect_path
from unveil.app.dependencies import AppStateDep, Session
from unveil.app.errors.problem import BadSignInCode
from unveil.app.http.authentication import (
    OptionalPrincipal,
    principal_from_token,
    rate_limit_anonymous,
    reject_cross_site,
    session_cookie_name,
)
from unveil.app.settings import Settings

_CSRF_COOKIE = "unveil_sign_in"
_CSRF_MINUTES = 15
_MAX_BODY_BYTES = 4096  # anonymous clients may send this much

router = APIRouter(route_class=PageRoute)


@router.get("/sign-in")
async def show_sign_in(
    request: Request,
    app_state: AppStateDep,
    session: Session,
    principal: OptionalPrincipal,
    code: Annotated[str, Query(max_length=200)] = "",
    next: Annotated[str, Query(max_length=500)] = "/",
) -> Response:
    """The form for a token; with the code of a link, a page that asks to confirm the account."""
    if not code:
        return render_page(request, "sign-in.html", None, error=None, next=safe_redirect_path(next))
    try:
        account = await accounts.account_of_code(session, app_state.keyring, code)
    except BadSignInCode:
        return await _reject_link(request, next)
    csrf_token = secrets.token_urlsafe(32)
    response = render_page(
        request, "sign-in-confirm.html", None, account=account.name, code=code, csrf_token=csrf_token,
        current=principal.name if principal and principal.account_id != account.id else None,
        next=safe_redirect_path(next),
    )  # fmt: skip
    _set_cookie(response, request, app_state.settings, _csrf_cookie_name(app_state.settings), csrf_token, _CSRF_MINUTES)
    return response


@router.post("/sign-in", max_body_size=_MAX_BODY_BYTES)
async def sign_in(
    request: Request,
    app_state: AppStateDep,
    session: Session,
    token: Annotated[str, Form(max_length=200)] = "",
    code: Annotated[str, Form(max_length=200)] = "",
    csrf_token: Annotated[str, Form(max_length=200)] = "",
    next: Annotated[str, Form(max_length=500)] = "/",
) -> Response:
    """Sign in by a token, whose scopes the session gets, or by the code of a link."""
    reject_cross_site(request)
    if code:
        return await _sign_in_by_code(request, app_state, session, code, csrf_token, next)
    principal = await principal_from_token(app_state, token.strip())
    if principal is None:
        await rate_limit_anonymous(request)
        error = "This token is unknown or revoked."
        return render_page(request, "sign-in.html", None, status=401, error=error, next=safe_redirect_path(next))
    scopes = sorted(principal.scopes)
    cookie = await accounts.open_session_for_account(session, app_state.keyring, principal.account_id, scopes)
    return _start_session(request, app_state.settings, cookie, next)


@router.post("/sign-out", max_body_size=_MAX_BODY_BYTES)
async def sign_out(request: Request, app_state: AppStateDep, session: Session) -> Response:
    reject_cross_site(request)
    name = session_cookie_name(app_state.settings)
    cookie = request.cookies.get(name)
    if cookie:
        await accounts.close_session(session, app_state.keyring, cookie)
    response = redirect("/sign-in")
    response.delete_cookie(name, secure=app_state.settings.secure_cookies, httponly=True)
    return response


async def _sign_in_by_code(
    request: Request, app_state: AppStateDep, session: Session, code: str, csrf_token: str, next: str
) -> Response:
    expected = request.cookies.get(_csrf_cookie_name(app_state.settings), "")
    if not expected or not secrets.compare_digest(expected.encode(), csrf_token.encode()):
        error = "This page has expired. Open the link again."
        return render_page(request, "sign-in.html", None, status=403, error=error, next=safe_redirect_path(next))
    try:
        cookie = await accounts.open_session(session, app_state.keyring, code)
    except BadSignInCode:
        return await _reject_link(request, next)
    return _start_session(request, app_state.settings, cookie, next)


async def _reject_link(request: Request, next: str) -> Response:
    await rate_limit_anonymous(request)
    error = "This link was used already or has expired. Paste your token, or create a new link."
    return render_page(request, "sign-in.html", None, status=401, error=error, next=safe_redirect_path(next))


def _start_session(request: Request, settings: Settings, cookie: str, next: str) -> Response:
    response = redirect(safe_redirect_path(next))
    _set_cookie(response, request, settings, session_cookie_name(settings), cookie, accounts.SESSION_HOURS * 60)
    response.delete_cookie(_csrf_cookie_name(settings), secure=settings.secure_cookies, httponly=True)
    return response


def _set_cookie(response: Response, request: Request, settings: Settings, name: str, value: str, minutes: int) -> None:
    response.set_cookie(
        name, value, max_age=minutes * 60, path="/", httponly=True,
        samesite="lax",  # a link opened from a terminal or a mail must find its session
        secure=settings.secure_cookies or request.url.scheme == "https",
    )  # fmt: skip


def _csrf_cookie_name(settings: Settings) -> str:
    return f"__Host-{_CSRF_COOKIE}" if settings.secure_cookies else _CSRF_COOKIE
