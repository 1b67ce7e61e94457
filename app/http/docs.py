"""GET /docs: Swagger UI for /openapi.json. The wheel `fastapi-offline` brings its assets, so no CDN is needed."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

router = APIRouter(include_in_schema=False)

_STATIC = Path(__file__).parent / "static"
_PAGE = (_STATIC / "swagger.html").read_text()
_HEADERS = {
    # Swagger UI uses data: for its icons and blob: for images in responses.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}

router.mount("/docs/assets", StaticFiles(directory=_STATIC, packages=[("fastapi_offline", "static")]))


@router.get("/docs")
async def get_docs() -> HTMLResponse:
    return HTMLResponse(_PAGE, headers=_HEADERS)
