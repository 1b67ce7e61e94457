"""What all pages share: sign-in, headers, templates and their filters, and problems as pages."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.templating import Jinja2Templates
from markupsafe import Markup
from starlette.responses import RedirectResponse, Response

from unveil.app.board.assets import TEMPLATE_DIR as BOARD_TEMPLATE_DIR
from unveil.app.board.assets import VERDICT_ORDER
from unveil.app.dashboard import heatmap
from unveil.app.errors.problem import NotFound, Problem, Unauthenticated
from unveil.app.http.authentication import AuthenticatedRoute
from unveil.app.report import narrative
from unveil.app.report.formats import TEMPLATE_DIR
from unveil.app.report.labels import (
    NO_VALUE,
    dataset_label,
    format_duration,
    format_number,
    format_percent,
    title,
)
from unveil.app.security.principal import Principal

DASHBOARD_DIR = Path(__file__).parent
_PAGE_HEADERS = {
    # blob: images that a page makes from answers of the API
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class PageRoute(AuthenticatedRoute):
    """A page for people: redirects to the sign-in without a session, and shows problems as pages."""

    ignores_unknown_query = True  # other sites add parameters to links

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except Unauthenticated:
                requested_url = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                return redirect(f"/sign-in?next={quote(requested_url)}" if request.method == "GET" else "/sign-in")
            except RequestValidationError:
                return _problem_page(request, NotFound("this address has a part that cannot be read"))
            except Problem as problem:
                return _problem_page(request, problem)

        return handle


def _problem_page(request: Request, problem: Problem) -> Response:
    principal = getattr(request.state, "principal", None)
    response = render_page(
        request, "message.html", principal, status=problem.status, title=problem.title, text=problem.detail
    )
    response.headers.update(problem.headers)
    return response


def render_page(
    request: Request, template: str, principal: Principal | None, *, status: int = 200, **context: Any
) -> Response:
    return _templates.TemplateResponse(
        request, template, {"principal": principal, **context}, status_code=status, headers=_PAGE_HEADERS
    )


def redirect(path: str) -> RedirectResponse:
    return RedirectResponse(path, status_code=303, headers=_PAGE_HEADERS)


def safe_redirect_path(address: str) -> str:
    """`address` if it is a path of this service, else the overview: a sign-in must not lead elsewhere."""
    parts = urlsplit(address)
    is_own_path = (
        address.startswith("/") and not address.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    )
    return address if is_own_path else "/"


# --- values in templates ----------------------------------------------------------------------------------------


def _format_time(moment: datetime | None) -> Markup | str:
    if moment is None:
        return NO_VALUE
    return Markup('<time datetime="{}">{}</time>').format(moment.isoformat(), moment.strftime("%Y-%m-%d %H:%M UTC"))


def _format_bytes(count: int | None) -> str:
    if count is None:
        return NO_VALUE
    return f"{count / 2**20:.1f} MB" if count >= 2**20 else f"{count / 2**10:.0f} kB"


# The charts are the report's.
_templates = Jinja2Templates([DASHBOARD_DIR / "templates", BOARD_TEMPLATE_DIR, TEMPLATE_DIR])
_templates.env.autoescape = True  # also in the report's `.html.j2`
_NAVIGATION = (
    ("/", "Evaluations"),
    ("/dashboard/playground", "Playground"),
    ("/dashboard/evaluations/new", "New evaluation"),
    ("/dashboard/compare", "Compare"),
    ("/dashboard/board", "Board"),
    ("/dashboard/keys", "Keys"),
    ("/dashboard/datasets", "Datasets"),
    ("/dashboard/webhooks", "Webhooks"),
    ("/docs", "API docs"),
)
_SHORTCUTS = (
    ("/", "Search evaluations"),
    ("n", "New evaluation"),
    ("j", "Next evaluation, cell or image"),
    ("k", "Previous evaluation, cell or image"),
    ("g e", "Evaluations"),
    ("g p", "Playground"),
    ("g k", "Keys"),
    ("g d", "Datasets"),
    ("?", "This list"),
)


def _section_of(path: str) -> str | None:
    """The entry of the navigation that a page below it belongs to."""
    is_evaluation = path.startswith("/dashboard/evaluations/") and path != "/dashboard/evaluations/new"
    return "/" if is_evaluation else None


_templates.env.globals.update(
    heat=heatmap,
    sentences=narrative,
    title_of=title,
    data_set_of=dataset_label,
    pages=_NAVIGATION,
    shortcuts=_SHORTCUTS,
    section_of=_section_of,
    verdict_order=VERDICT_ORDER,
)
_templates.env.filters.update(
    combined=lambda one, other: {**one, **other},
    figure=format_number,
    percent=format_percent,
    when=_format_time,
    duration=format_duration,
    size=_format_bytes,
)
_templates.env.trim_blocks = _templates.env.lstrip_blocks = True
_templates.env.globals["m"] = _templates.env.get_template("macros.html").module
