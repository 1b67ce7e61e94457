"""The OpenAPI document: FastAPI's own, with problems under their true media type and an example each."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.core.problems import MEDIA_TYPE

_REFERENCE = {"$ref": "#/components/schemas/ProblemOut"}


def describe(app: FastAPI) -> dict[str, Any]:
    """Made once, on first use."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        for path in document["paths"].values():
            for operation in path.values():
                for status, response in operation.get("responses", {}).items():
                    _as_problem(status, response)
        app.openapi_schema = document
    return app.openapi_schema


def _as_problem(status: str, response: dict[str, Any]) -> None:
    content = response.get("content", {})
    if not status.isdigit() or content.get("application/json", {}).get("schema") != _REFERENCE:
        return
    response["content"] = {MEDIA_TYPE: {"schema": _REFERENCE}}
