"""Problems (RFC 9457): base classes of every error that a caller sees. Imports no web framework."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass
class Problem(Exception):
    """Raise one of the subclasses; the handler in unveil.app.main renders it."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "The service made a mistake"

    detail: str
    errors: list[tuple[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def to_dict(self, request_id: str) -> dict[str, Any]:
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


class StorageFull(Unavailable):
    code, title = "storage_full", "The service's storage is full"


class StorageUnavailable(Unavailable):
    code, title = "storage_away", "The service's storage cannot be reached"
