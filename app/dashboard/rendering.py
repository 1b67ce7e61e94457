"""What all pages share: who may see them, the frame around them, their headers, and problems told as pages."""

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

from unveil.app.dashboard import heatmap, labels
from unveil.app.errors.problem import NotFound, Problem, Unauthenticated
from unveil.app.http.authentication import CallerFirst
from unveil.app.report import narrative
from unveil.app.report.labels import data_set, title
from unveil.app.security.principal import Caller

HERE = Path(__file__).parent
_HEADERS = {
    # blob: pictures that a page itself has made of what the API answered
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class PageRoute(CallerFirst):
    """A page for people: a stranger is sent to the sign-in, and a problem is a page too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except Unauthenticated:
                wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                return redirect(f"/sign-in?next={quote(wanted)}" if request.method == "GET" else "/sign-in")
            except RequestValidationError:
                return _told(request, NotFound("this address has a part that cannot be read"))
            except Problem as problem:
                return _told(request, problem)

        return handle


def _told(request: Request, problem: Problem) -> Response:
    caller = getattr(request.state, "caller", None)
    told = page(request, "message.html", caller, status=problem.status, title=problem.title, text=problem.detail)
    told.headers.update(problem.headers)
    return told


def page(request: Request, template: str, caller: Caller | None, *, status: int = 200, **context: Any) -> Response:
    return _templates.TemplateResponse(
        request, template, {"caller": caller, **context}, status_code=status, headers=_HEADERS
    )


def redirect(path: str) -> RedirectResponse:
    return RedirectResponse(path, status_code=303, headers=_HEADERS)


def own_path(address: str) -> str:
    """`address` if it is a path of this service, else the overview: a sign-in must not lead elsewhere."""
    parts = urlsplit(address)
    ours = address.startswith("/") and not address.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return address if ours else "/"


# --- how values are written -------------------------------------------------------------------------------------


def _figure(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def _when(moment: datetime | None) -> Markup | str:
    if moment is None:
        return "–"
    return Markup('<time datetime="{}">{}</time>').format(moment.isoformat(), moment.strftime("%Y-%m-%d %H:%M UTC"))


def duration(seconds: float | None) -> str:
    """As a person says it: two figures are enough."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _bytes(count: int | None) -> str:
    if count is None:
        return "–"
    return f"{count / 2**20:.1f} MB" if count >= 2**20 else f"{count / 2**10:.0f} kB"


_templates = Jinja2Templates(HERE / "templates")
_PAGES = (
    ("/", "Evaluations"),
    ("/dashboard/playground", "Playground"),
    ("/dashboard/evaluations/new", "New evaluation"),
    ("/dashboard/compare", "Compare"),
    ("/dashboard/keys", "Keys"),
    ("/dashboard/datasets", "Data sets"),
    ("/docs", "API"),
)
_templates.env.globals.update(
    heat=heatmap, words=labels, sentences=narrative, title_of=title, data_set_of=data_set, pages=_PAGES
)
_templates.env.filters.update(
    combined=lambda one, other: {**one, **other},
    figure=_figure,
    percent=_percent,
    when=_when,
    duration=duration,
    size=_bytes,
)
_templates.env.trim_blocks = _templates.env.lstrip_blocks = True
_templates.env.globals["m"] = _templates.env.get_template("macros.html").module
