"""Problem documents (RFC 9457): the body of every 4xx and 5xx response."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import Response

from unveil.app.errors.problem import Problem
from unveil.app.observability.logging import current_request_id

MEDIA_TYPE = "application/problem+json"


class ProblemError(BaseModel):
    pointer: str = Field(examples=["/attacks/0/epochs"])
    detail: str = Field(examples=["must be at least 1; got 0"])


class ProblemOut(BaseModel):
    type: str = Field(examples=["urn:unveil:problem:invalid_request"])
    title: str = Field(examples=["The request is not valid"])
    status: int = Field(examples=[422])
    detail: str
    code: str = Field(examples=["invalid_request"])
    errors: list[ProblemError] = []
    request_id: str = Field(examples=["req_0197f3c2a5d17a3b8c4d5e6f708192a3"])


def to_response(problem: Problem) -> Response:
    headers = {"Cache-Control": "no-store", **problem.headers}
    # Details may quote the request, and JSON strings may hold lone surrogates, which UTF-8 cannot encode.
    body = json.dumps(problem.to_dict(current_request_id()), ensure_ascii=False, separators=(",", ":"))
    return Response(body.encode(errors="replace"), problem.status, headers, media_type=MEDIA_TYPE)


def problems(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route that raises these problems."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        entry = by_status.setdefault(kind.status, {"model": ProblemOut, "description": kind.title})
        if kind.title not in entry["description"]:
            entry["description"] += f"; {kind.title}"
    return by_status
