"""The registry of problem codes (RFC 9457): one class a code, shared by the service and the Python client.

A class names its code, its title and, unless its base has the same, its HTTP status; its docstring says what the caller
can do. docs/reference/errors.md is generated from here. Imports no web framework: the base install has this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class UnveilError(Exception):
    """Base class of the errors that the service answers and the client raises."""


class Problem(UnveilError):
    """The service rejects a request.

    `errors` holds (pointer, detail) pairs that name the fields or files at fault. `headers` are those of the response
    that the service sends. In the client, `retry_after_s` is set if the response has the header Retry-After.
    """

    by_code: ClassVar[dict[str, type[Problem]]] = {}
    by_status: ClassVar[dict[int, type[Problem]]] = {}  # the first class with the status
    status, code, title = 500, "unknown", ""
    request_id = ""
    retry_after_s: float | None = None

    def __init_subclass__(cls, code: str, title: str, status: int | None = None) -> None:
        cls.code, cls.title, cls.status = code, title, status or cls.status
        Problem.by_code[code] = cls
        Problem.by_status.setdefault(cls.status, cls)

    def __init__(
        self,
        detail: str,
        errors: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        *,
        status: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail, self.errors, self.headers = detail, list(errors), dict(headers or {})
        self.status = status or self.status

    def __str__(self) -> str:
        lines = [f"{self.status} {self.code}: {self.detail or self.title}"]
        return "\n".join(
            lines + [f"  {pointer}: {detail}" if pointer else f"  {detail}" for pointer, detail in self.errors]
        )

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


# --- one class a status -----------------------------------------------------------------------------------------


class Invalid(Problem, code="invalid_request", title="The request is not valid", status=422):
    """Correct the fields that `errors` names."""


class Unauthenticated(Problem, code="unauthenticated", title="A valid bearer token is needed", status=401):
    """Send `Authorization: Bearer TOKEN` with a token that is not revoked."""


class Forbidden(Problem, code="forbidden", title="The token lacks a scope", status=403):
    """Use a token that has the scope."""


class NotFound(Problem, code="not_found", title="There is nothing here", status=404):
    """Check the path and the id. Objects of other accounts also give 404."""


class Conflict(Problem, code="conflict", title="The state does not allow this", status=409):
    """Read the current state first."""


class Gone(Problem, code="gone", title="The object was destroyed", status=410):
    """Use another object."""


class TooLarge(Problem, code="too_large", title="The request is too large", status=413):
    """Send less in one request."""


class TooMany(Problem, code="too_many_requests", title="Too many requests", status=429):
    """Wait for the time in `Retry-After`."""


class ServerProblem(Problem, code="internal", title="Internal server error", status=500):
    """Report the error with its `request_id`, which also appears in the log of the service."""


# --- one class a code -------------------------------------------------------------------------------------------


class BadRequest(Invalid, code="bad_request", title="The request cannot be read", status=400):
    """Correct the syntax of the request: its JSON, its multipart body or its query."""


class MethodNotAllowed(Invalid, code="method_not_allowed", title="This path does not support the method", status=405):
    """Use one of the methods in the header `Allow`."""


class NotAcceptable(Invalid, code="not_acceptable", title="No acceptable media type", status=406):
    """Ask for one of the media types that `detail` lists."""


class UnsupportedMedia(Invalid, code="unsupported_media", title="This content type is not accepted", status=415):
    """Send one of the content types that `detail` lists."""


class UnsupportedImage(
    UnsupportedMedia, code="unsupported_image", title="A file is not an image of a supported format"
):
    """Convert the file to PNG, JPEG or another supported format."""


class Unavailable(ServerProblem, code="unavailable", title="A component of the service does not respond", status=503):
    """Send the request again; nothing was lost."""


class NoWorker(Unavailable, code="no_worker", title="No encryption worker replied in time"):
    """Send the request again; `unveil doctor` shows whether workers run."""


class PdfUnavailable(ServerProblem, code="pdf_unavailable", title="PDF cannot be written", status=501):
    """Print `report.html` from a browser, or ask the operator to install `unveil[pdf]`."""


class StorageFull(Unavailable, code="storage_full", title="The storage of the service is full"):
    """The operator must free space."""


class StorageAway(Unavailable, code="storage_away", title="The storage of the service cannot be reached"):
    """Send the request again later."""


class BadSignInCode(Unauthenticated, code="bad_sign_in_code", title="The sign-in code is unknown, used or expired"):
    """Create a new link with `unveil accounts sign-in`."""


class CrossSite(Forbidden, code="cross_site", title="The request comes from another site"):
    """Open the dashboard directly and send the form from there."""


class UnknownAccount(NotFound, code="unknown_account", title="There is no such account"):
    """`GET /accounts` lists all accounts."""


class UnknownToken(NotFound, code="unknown_token", title="There is no such token"):
    """`unveil tokens list` lists all tokens."""


class UnknownAttack(NotFound, code="unknown_attack", title="No attack has this name"):
    """`GET /attacks` lists all attacks."""


class UnknownDataset(NotFound, code="unknown_dataset", title="There is no such dataset"):
    """`GET /datasets` lists built-in datasets and your uploads."""


class UnknownEvaluation(NotFound, code="unknown_evaluation", title="There is no such evaluation"):
    """`GET /evaluations` lists your evaluations."""


class UnknownJob(NotFound, code="unknown_job", title="There is no such job"):
    """`GET /jobs` lists active jobs."""


class UnknownKey(NotFound, code="unknown_key", title="There is no such key"):
    """`GET /keys` lists your keys."""


class UnknownScheme(NotFound, code="unknown_scheme", title="No scheme has this name"):
    """`GET /schemes` lists all schemes."""


class AccountExists(Conflict, code="account_exists", title="An account of this name already exists"):
    """Choose another name."""


class OwnAccount(Conflict, code="own_account", title="An administrator cannot revoke their own account"):
    """Use the account of another administrator."""


class DatasetBuiltIn(Conflict, code="dataset_built_in", title="A built-in dataset cannot be deleted"):
    """Only uploads can be deleted."""


class DatasetInUse(Conflict, code="dataset_in_use", title="An unfinished evaluation or training needs this dataset"):
    """Wait until it ends, or cancel it."""


class EvaluationEnded(Conflict, code="evaluation_ended", title="The evaluation has ended"):
    """There is nothing left to cancel."""


class EvaluationRunning(Conflict, code="evaluation_running", title="The evaluation is still running"):
    """Wait until the evaluation ends, or cancel it first."""


class IdempotencyRunning(
    Conflict, code="idempotency_running", title="The first request with this Idempotency-Key is still running"
):
    """Send the same request again in a moment."""


class JobEnded(Conflict, code="job_ended", title="The job has ended"):
    """There is nothing left to cancel."""


class KeyBusy(Conflict, code="key_busy", title="The key is in training, or an unfinished evaluation needs it"):
    """Wait until the training or the evaluation ends, or cancel it."""


class KeyNotReady(Conflict, code="key_not_ready", title="The key is not ready"):
    """Wait until the training ends; if it failed, create another key."""


class KeyAuditOnly(Conflict, code="key_audit_only", title="The seed of the key is known: it is for audits only"):
    """Train a key with `POST /keys` and no seed, or send `allow_audit_key=true`."""


class NotExportable(Conflict, code="not_exportable", title="The key has no explicit form"):
    """Keep the key in the service."""


class NotTraining(Conflict, code="not_training", title="There is no training to cancel"):
    """The key is ready, or its training has ended."""


class KeyDestroyed(Gone, code="key_destroyed", title="The key was destroyed"):
    """Use another key; images under a destroyed key can no longer be decrypted."""


class ArchiveTooLarge(TooLarge, code="archive_too_large", title="The archive exceeds a limit"):
    """Upload a smaller archive."""


class ImageTooLarge(TooLarge, code="image_too_large", title="An image has too many pixels"):
    """Scale the image down."""


class TooManyFiles(TooLarge, code="too_many_files", title="The request has too many files or fields"):
    """Split it into several requests."""


class AnimatedImage(Invalid, code="animated_image", title="Animated images are not accepted"):
    """Send a single frame."""


class BadArchive(Invalid, code="bad_archive", title="The archive cannot be used"):
    """Correct the file that `detail` names and create the archive again."""


class BrokenImage(Invalid, code="broken_image", title="An image cannot be decoded"):
    """Save the image again, or leave it out."""


class IdempotencyMismatch(
    Invalid, code="idempotency_mismatch", title="This Idempotency-Key was used for another request"
):
    """Use a new Idempotency-Key for each different request."""


class KeyNeeded(Invalid, code="key_needed", title="A key is required"):
    """Give `key_id`."""


class CostQuotaExceeded(
    Invalid, code="cost_quota_exceeded", title="The estimated cost of the request exceeds the quota of the account"
):
    """Request less, or ask an administrator for a higher quota."""


class NoPairApplies(Invalid, code="no_pair_applies", title="No requested attack applies to any requested scheme"):
    """`GET /attacks` lists the schemes that each attack applies to."""


class CiphertextChanged(
    Invalid, code="ciphertext_changed", title="The ciphertext was changed, or it belongs to another key"
):
    """Send the PNG that `/encrypt` returned and its key, or `allow_changed=true` to decrypt it anyway."""


class NotExact(Invalid, code="not_exact", title="The image cannot be used without a conversion"):
    """Send the unchanged output of the scheme: 8-bit grey or RGB, lossless, without alpha or EXIF rotation."""


class NotAnImage(Invalid, code="not_an_image", title="The ciphertext is not an image"):
    """Evaluate the scheme instead, or encrypt in Python with `Scheme.encrypt`."""


class NotInvertible(Invalid, code="not_invertible", title="The scheme is not invertible"):
    """Keep the plain images: this scheme cannot decrypt."""


class OriginalsNotTaken(Invalid, code="originals_not_taken", title="Only a protected dataset has originals"):
    """Leave `originals` out, or upload with `kind=protected`."""


class PluginFailed(Invalid, code="plugin_failed", title="A plug-in failed"):
    """Fix the plug-in (`unveil plugins check` prints the traceback), or use another scheme."""


class SizeMismatch(Invalid, code="size_mismatch", title="The key does not fit images of this size"):
    """Use images of the size that the key fits, or another key."""


class WrongKey(Invalid, code="wrong_key", title="The key does not match the request"):
    """Give the scheme and the parameters of the key, or another key."""


class TooManyAtOnce(TooMany, code="too_many_at_once", title="The account has too many concurrent requests"):
    """Send fewer requests at once."""


class TooManyStreams(TooMany, code="too_many_streams", title="The account has too many open event streams"):
    """Close other streams."""


class PlaygroundBusy(TooMany, code="playground_busy", title="Another playground request of the account is running"):
    """Wait until the other request ends."""


class QueueFull(TooMany, code="queue_full", title="The account has too many active jobs"):
    """Wait until jobs end, or cancel some."""
