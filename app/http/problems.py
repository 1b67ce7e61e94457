"""Problems (RFC 9457): every 4xx and 5xx answer of the service has this shape and media type."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from unveil.app.errors.problem import Problem
from unveil.app.observability.logging import request_id

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
    """The answer that tells of a problem."""
    headers = {"Cache-Control": "no-store", **problem.headers}
    # A caller's own words come back in it, and JSON may carry half characters that UTF-8 has no bytes for.
    body = json.dumps(problem.to_dict(request_id.get()), ensure_ascii=False, separators=(",", ":"))
    return Response(body.encode(errors="replace"), problem.status, headers, media_type=MEDIA_TYPE)


async def send_problem(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    """For middleware, which runs outside the handlers."""
    await to_response(problem)(scope, receive, send)


def problems(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route, from the problems it raises."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        entry = by_status.setdefault(kind.status, {"model": ProblemOut, "description": kind.title})
        if kind.title not in entry["description"]:
            entry["description"] += f"; {kind.title}"
    return by_status
