"""What can go wrong between a client and the service: the problems of the service, and two errors of the connection.

`except NotFound` also catches `UnknownKey`: each problem code has a class, below the class of its HTTP status. A code
that comes with two statuses (404 in a path, 422 in a body) is one class.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from unveil.app.errors.problem import *  # noqa: F403 - every class of the registry can be imported from here
from unveil.app.errors.problem import Problem, ServerProblem, UnveilError

if TYPE_CHECKING:
    import httpx

ProblemError = Problem


class Unreachable(UnveilError):
    """The service did not answer at the address, after every retry."""


class TimedOut(UnveilError):
    """`wait(timeout=...)` expired; the job itself continues."""


def error_from_response(response: httpx.Response) -> ProblemError:
    """The typed error of a 4xx or 5xx response, also if a proxy answered and its body is not a problem document."""
    status = response.status_code
    try:
        body = response.json()
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    by_status = Problem.by_status.get(status, ServerProblem if status >= 500 else Problem)
    kind = Problem.by_code.get(body.get("code", ""), by_status)
    errors = [(error["pointer"], error["detail"]) for error in body.get("errors", [])]
    problem = kind(body.get("detail", response.reason_phrase), errors, status=status)
    problem.code, problem.title = body.get("code", "unknown"), body.get("title", "")
    problem.request_id, problem.retry_after_s = body.get("request_id", ""), _retry_after_s(response)
    return problem


def _retry_after_s(response: httpx.Response) -> float | None:
    """Retry-After, which is seconds or a date."""
    value = response.headers.get("Retry-After", "")
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # TypeError: a date without a zone
        return None
