"""Problems (RFC 9457): every 4xx and 5xx answer of the service has this shape and media type."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

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


@dataclass
class Problem(Exception):
    """Raise one of the subclasses; the handler in unveil.app.main renders it."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "The service made a mistake"

    detail: str
    errors: list[tuple[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def body(self, request_id: str) -> dict[str, Any]:
        return {
            "type": f"urn:unveil:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "errors": [{"pointer": pointer, "detail": detail} for pointer, detail in self.errors],
            "request_id": request_id,
        }


class BadRequest(Problem):
    status, code, title = 400, "bad_request", "The request cannot be read"


class Unauthenticated(Problem):
    status, code, title = 401, "unauthenticated", "A valid bearer token is needed"


class Forbidden(Problem):
    status, code, title = 403, "forbidden", "The token lacks a scope"


class NotFound(Problem):
    status, code, title = 404, "not_found", "There is nothing here"


class MethodNotAllowed(Problem):
    status, code, title = 405, "method_not_allowed", "This address does not take that method"


class Conflict(Problem):
    status, code, title = 409, "conflict", "The state does not allow this"


class Gone(Problem):
    status, code, title = 410, "gone", "It was destroyed"


class TooLarge(Problem):
    status, code, title = 413, "too_large", "The request is too large"


class UnsupportedMedia(Problem):
    status, code, title = 415, "unsupported_media", "This kind of content is not taken"


class Invalid(Problem):
    status, code, title = 422, "invalid_request", "The request is not valid"


class TooMany(Problem):
    status, code, title = 429, "too_many_requests", "Slow down"


class Unavailable(Problem):
    status, code, title = 503, "unavailable", "A part of the service is away"


class FullStorage(Unavailable):
    code, title = "storage_full", "The service's storage is full"


class LostStorage(Unavailable):
    code, title = "storage_away", "The service's storage cannot be reached"


def respond(problem: Problem) -> Response:
    """The answer that tells of a problem."""
    headers = {"Cache-Control": "no-store", **problem.headers}
    # A caller's own words come back in it, and JSON may carry half characters that UTF-8 has no bytes for.
    body = json.dumps(problem.body(request_id.get()), ensure_ascii=False, separators=(",", ":"))
    return Response(body.encode(errors="replace"), problem.status, headers, media_type=MEDIA_TYPE)


async def send_problem(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    """For middleware, which runs outside the handlers."""
    await respond(problem)(scope, receive, send)


def problems(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route, from the problems it raises."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        entry = by_status.setdefault(kind.status, {"model": ProblemOut, "description": kind.title})
        if kind.title not in entry["description"]:
            entry["description"] += f"; {kind.title}"
    return by_status
