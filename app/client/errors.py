"""What can go wrong between a client and the service.

The service answers with problem documents (RFC 9457). Each of their codes has a class here, under the class of its HTTP
status; so `except NotFound` catches what `except UnknownKey` does, and more. A code that comes with two statuses (404
in a path, 422 in an order) is one class.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar

import httpx


class UnveilError(Exception):
    """Base of every error this client raises on purpose."""


class Unreachable(UnveilError):
    """Nobody answers at the address, after every retry."""


class TimedOut(UnveilError):
    """The wait ran out; what was waited for goes on."""


class ProblemError(UnveilError):
    """The service refused.

    `errors` holds (pointer, detail) pairs that name the fields or files at fault; `retry_after_s` is set where the
    service said when to come back.
    """

    by_code: ClassVar[dict[str, type[ProblemError]]] = {}

    def __init_subclass__(cls, code: str = "") -> None:
        if code:
            ProblemError.by_code[code] = cls

    def __init__(self, status: int, body: dict[str, Any], retry_after_s: float | None = None) -> None:
        self.status = status
        self.code: str = body.get("code", "unknown")
        self.title: str = body.get("title", "")
        self.detail: str = body.get("detail", "")
        self.errors: list[tuple[str, str]] = [(e["pointer"], e["detail"]) for e in body.get("errors", [])]
        self.request_id: str = body.get("request_id", "")
        self.retry_after_s = retry_after_s
        lines = [f"{status} {self.code}: {self.detail or self.title}"]
        lines += [f"  {pointer}: {detail}" if pointer else f"  {detail}" for pointer, detail in self.errors]
        super().__init__("\n".join(lines))


# --- one class a status -----------------------------------------------------------------------------------------


class Unauthenticated(ProblemError, code="unauthenticated"):
    """401: the token is missing, wrong or revoked."""


class Forbidden(ProblemError, code="forbidden"):
    """403: the token lacks a scope."""


class NotFound(ProblemError, code="not_found"):
    """404: not there, or not yours."""


class Conflict(ProblemError, code="conflict"):
    """409: the state does not allow it."""


class Gone(ProblemError, code="gone"):
    """410: destroyed."""


class TooLarge(ProblemError, code="too_large"):
    """413: above a limit of the service."""


class Invalid(ProblemError, code="invalid_request"):
    """400, 405, 406, 415 or 422: the request is at fault; `errors` says where."""


class TooMany(ProblemError, code="too_many_requests"):
    """429: still refused after every retry."""


class ServerProblem(ProblemError, code="internal"):
    """5xx: the service is at fault, or a part of it is away."""


_BY_STATUS: dict[int, type[ProblemError]] = {
    400: Invalid,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    405: Invalid,
    406: Invalid,
    409: Conflict,
    410: Gone,
    413: TooLarge,
    415: Invalid,
    422: Invalid,
    429: TooMany,
}

# --- one class a code -------------------------------------------------------------------------------------------


class BadSignInCode(Unauthenticated, code="bad_sign_in_code"):
    """The sign-in code is unknown, used or too old."""


class CrossSite(Forbidden, code="cross_site"):
    """The request comes from another site."""


class UnknownAccount(NotFound, code="unknown_account"):
    """No account has this name or id."""


class UnknownToken(NotFound, code="unknown_token"):
    """No bearer token has this id."""


class UnknownAttack(NotFound, code="unknown_attack"):
    """No attack has this name."""


class UnknownDataset(NotFound, code="unknown_dataset"):
    """No dataset of yours has this name or id."""


class UnknownEvaluation(NotFound, code="unknown_evaluation"):
    """No evaluation of yours has this id."""


class UnknownKey(NotFound, code="unknown_key"):
    """No key of yours has this id."""


class UnknownScheme(NotFound, code="unknown_scheme"):
    """No scheme has this name."""


class AccountExists(Conflict, code="account_exists"):
    """The name is taken."""


class OwnAccount(Conflict, code="own_account"):
    """An administrator cannot revoke the account that asks."""


class DatasetBuiltIn(Conflict, code="dataset_built_in"):
    """A built-in dataset stays."""


class DatasetInUse(Conflict, code="dataset_in_use"):
    """An evaluation or a training that has not ended needs the dataset."""


class EvaluationEnded(Conflict, code="evaluation_ended"):
    """There is nothing left to cancel."""


class EvaluationRunning(Conflict, code="evaluation_running"):
    """Cancel it first, or wait."""


class IdempotencyRunning(Conflict, code="idempotency_running"):
    """The first request with this Idempotency-Key still runs."""


class KeyBusy(Conflict, code="key_busy"):
    """The key is in training, or an evaluation needs it."""


class KeyNotReady(Conflict, code="key_not_ready"):
    """The key is still in training, or its training failed."""


class NotExportable(Conflict, code="not_exportable"):
    """The key has no explicit form."""


class NotTraining(Conflict, code="not_training"):
    """There is no training to cancel."""


class KeyDestroyed(Gone, code="key_destroyed"):
    """The key was destroyed, and what it protects is lost."""


class ArchiveTooLarge(TooLarge, code="archive_too_large"):
    """An upload, or what it unpacks to, is above a limit."""


class ImageTooLarge(TooLarge, code="image_too_large"):
    """An image has too many pixels."""


class TooManyFiles(TooLarge, code="too_many_files"):
    """The request has too many files or fields."""


class AnimatedImage(Invalid, code="animated_image"):
    """Animations are not taken."""


class BadArchive(Invalid, code="bad_archive"):
    """The archive cannot be used."""


class BadRequest(Invalid, code="bad_request"):
    """The request cannot be read."""


class BrokenImage(Invalid, code="broken_image"):
    """An image cannot be decoded."""


class IdempotencyMismatch(Invalid, code="idempotency_mismatch"):
    """This Idempotency-Key was used for another request."""


class KeyNeeded(Invalid, code="key_needed"):
    """A key must be named."""


class MethodNotAllowed(Invalid, code="method_not_allowed"):
    """The address does not take that method."""


class NoPairApplies(Invalid, code="no_pair_applies"):
    """No attack of the order applies to any of its schemes."""


class NotAcceptable(Invalid, code="not_acceptable"):
    """The answer cannot take that form."""


class NotExact(Invalid, code="not_exact"):
    """The image is not what encryption gave: recompressed, scaled or cut."""


class NotInvertible(Invalid, code="not_invertible"):
    """The scheme cannot be undone."""


class OriginalsNotTaken(Invalid, code="originals_not_taken"):
    """Only a protected dataset has originals."""


class SizeMismatch(Invalid, code="size_mismatch"):
    """The key does not fit images of this size."""


class UnsupportedImage(Invalid, code="unsupported_image"):
    """A file is not an image of a known kind."""


class UnsupportedMedia(Invalid, code="unsupported_media"):
    """This kind of content is not taken."""


class WrongKey(Invalid, code="wrong_key"):
    """The key does not belong to what was asked."""


class TooManyAtOnce(TooMany, code="too_many_at_once"):
    """The account's share of the encryption workers was busy for too long."""


class TooManyStreams(TooMany, code="too_many_streams"):
    """The account follows too many evaluations at once."""


class PlaygroundBusy(TooMany, code="playground_busy"):
    """Another look of this account is being worked out."""


class QueueFull(TooMany, code="queue_full"):
    """The account has too many cells waiting."""


class NoWorker(ServerProblem, code="no_worker"):
    """No worker took the work in time."""


class StorageFull(ServerProblem, code="storage_full"):
    """The service has no room for what was sent."""


class StorageAway(ServerProblem, code="storage_away"):
    """The service cannot reach its storage."""


class Unavailable(ServerProblem, code="unavailable"):
    """A part of the service is away."""


def error_from_response(response: httpx.Response) -> ProblemError:
    """The typed error of a 4xx or 5xx response, also when a proxy answered and its body is no problem document."""
    status = response.status_code
    try:
        body = response.json()
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    body.setdefault("detail", response.reason_phrase)
    by_status = _BY_STATUS.get(status, ServerProblem if status >= 500 else ProblemError)
    kind = ProblemError.by_code.get(body.get("code", ""), by_status)
    return kind(status, body, _retry_after_s(response))


def _retry_after_s(response: httpx.Response) -> float | None:
    """Retry-After, which is seconds or a date."""
    value = response.headers.get("Retry-After", "")
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # TypeError: a date without a zone
        return None
