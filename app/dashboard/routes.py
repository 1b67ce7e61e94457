"""The dashboard: server-rendered pages over the same services as the API.

A session cookie authenticates the pages and the API calls of their scripts. The pages hold no inline script and load
nothing from another origin; a request that changes something must come from the dashboard's own pages.
"""

from __future__ import annotations

from fastapi import APIRouter, Depends
from starlette.responses import FileResponse, Response

from unveil.app.dashboard import evaluation_form, evaluations, keys_and_datasets, playground, sign_in
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
    playground.router,
    keys_and_datasets.page_router,
    keys_and_datasets.api_router,
):
    router.include_router(sub_router)

_STATIC_MEDIA_TYPES = {
    path.name: {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}[path.suffix]
    for path in (DASHBOARD_DIR / "static").iterdir()
}


@router.get("/static/{name}")
async def show_static(name: str) -> Response:
    if name not in _STATIC_MEDIA_TYPES:
        raise NotFound(f"there is no file {name!r}")
    headers = {"Cache-Control": "public, max-age=300", "X-Content-Type-Options": "nosniff"}
    return FileResponse(DASHBOARD_DIR / "static" / name, media_type=_STATIC_MEDIA_TYPES[name], headers=headers)


@router.get("/dashboard/{path:path}", dependencies=[Depends(RequireScopes(("read",)))])  # after all others
async def page_not_found(path: str) -> Response:
    raise NotFound(f"there is no page {path!r}")
