"""The dashboard: server-rendered pages over the same services as the API.

A session cookie authenticates the pages and the API calls of their scripts. The pages hold no inline script and load
nothing from another origin; a request that changes something must come from the dashboard's own pages.
"""

from __future__ import annotations

from fastapi import APIRouter, Depends
from starlette.responses import FileResponse, Response

from unveil.app.board.assets import STATIC_DIR as BOARD_STATIC_DIR
from unveil.app.dashboard import (
    board,
    cells,
    evaluation_form,
    evaluations,
    keys_and_datasets,
    playground,
    share_link,
    sign_in,
    webhooks,
)
from unveil.app.dashboard.rendering import DASHBOARD_DIR, PageRoute
from unveil.app.errors.problem import NotFound
from unveil.app.http.authentication import (
    RequireScopes,
)

router = APIRouter(include_in_schema=False, route_class=PageRoute)
# the form before /dashboard/evaluations/{id}, which would take `new` for an id
for sub_router in (
    sign_in.router,
    evaluation_form.page_router,
    evaluation_form.api_router,
    evaluations.router,
    cells.router,
    share_link.router,
    board.router,
    playground.router,
    keys_and_datasets.page_router,
    keys_and_datasets.api_router,
    webhooks.router,
):
    router.include_router(sub_router)

_STATIC_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_STATIC_FILES = {
    path.name: path for folder in (DASHBOARD_DIR / "static", BOARD_STATIC_DIR) for path in folder.iterdir()
}


@router.get("/static/{name}")
async def show_static(name: str) -> Response:
    path = _STATIC_FILES.get(name)
    if path is None:
        raise NotFound(f"there is no file {name!r}")
    headers = {"Cache-Control": "public, max-age=300", "X-Content-Type-Options": "nosniff"}
    return FileResponse(path, media_type=_STATIC_MEDIA_TYPES[path.suffix], headers=headers)


@router.get("/dashboard/{path:path}", dependencies=[Depends(RequireScopes(("read",)))])  # after all others
async def page_not_found(path: str) -> Response:
    raise NotFound(f"there is no page {path!r}")
