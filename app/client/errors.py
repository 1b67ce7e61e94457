"""What can go wrong between a client and the service; the tree is drawn in the package's docstring."""

from __future__ import annotations

from typing import Any

import httpx


class UnveilError(Exception):
    """Base of every error this client raises on purpose."""


class Unreachable(UnveilError):
    """Nobody answers at the address, after every retry."""


class TimedOut(UnveilError):
    """The wait ran out; what was waited for goes on."""


class ProblemError(UnveilError):
    """The service refused: an RFC 9457 problem.

    `errors` holds (pointer, detail) pairs that name the fields or files at fault.
    """

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self.status = status
        self.code: str = body.get("code", "unknown")
        self.title: str = body.get("title", "")
        self.detail: str = body.get("detail", "")
        self.errors: list[tuple[str, str]] = [(e["pointer"], e["detail"]) for e in body.get("errors", [])]
        self.request_id: str = body.get("request_id", "")
        lines = [f"{status} {self.code}: {self.detail or self.title}"]
        lines += [f"  {pointer}: {detail}" if pointer else f"  {detail}" for pointer, detail in self.errors]
        super().__init__("\n".join(lines))


class Unauthenticated(ProblemError):
    """401: the token is missing, wrong or revoked."""


class Forbidden(ProblemError):
    """403: the token lacks a scope."""


class NotFound(ProblemError):
    """404: not there, or not yours."""


class Conflict(ProblemError):
    """409: the state does not allow it."""


class Gone(ProblemError):
    """410: destroyed."""


class TooLarge(ProblemError):
    """413: above a limit of the service."""


class Invalid(ProblemError):
    """400, 415 or 422: the request is at fault; `errors` says where."""


class TooMany(ProblemError):
    """429: still refused after every retry."""


class ServerProblem(ProblemError):
    """5xx: the service is at fault, or a part of it is away."""


_BY_STATUS: dict[int, type[ProblemError]] = {
    400: Invalid,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    413: TooLarge,
    415: Invalid,
    422: Invalid,
    429: TooMany,
}


def problem_of(response: httpx.Response) -> ProblemError:
    """The typed error of a 4xx or 5xx response, also when a proxy answered and its body is no problem document."""
    try:
        body = response.json()
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    body.setdefault("detail", response.reason_phrase)
    kind = _BY_STATUS.get(response.status_code, ServerProblem if response.status_code >= 500 else ProblemError)
    return kind(response.status_code, body)
