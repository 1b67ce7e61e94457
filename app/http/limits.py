"""Limits of request bodies: their size, their media type and the number of values in their JSON."""

from __future__ import annotations

from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY, RequestBodyLimitMiddleware
from starlette.types import Message, Receive, Scope, Send

from unveil.app.errors.problem import TooLarge, UnsupportedMedia
from unveil.app.http.problems import to_response

_MAX_JSON_VALUES = 200_000


class BodyLimitMiddleware(RequestBodyLimitMiddleware):
    """Starlette's body limit, answering with a problem document instead of plain text.

    `max_body_size` of a FastAPI router or route replaces the limit for its paths.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        replaced = False

        async def send_problem_instead(message: Message) -> None:
            nonlocal replaced
            # Starlette replaces any response to an oversized Content-Length with this one, our own 413 included.
            if message.get("status") == 413 and (b"content-type", b"text/plain; charset=utf-8") in message["headers"]:
                replaced = True
                await to_response(body_too_large(scope))(scope, receive, send)
            if not replaced:
                await send(message)

        await super().__call__(scope, receive, send_problem_instead)


def body_too_large(scope: Scope) -> TooLarge:
    limit = scope[MAX_BODY_SIZE_SCOPE_KEY]
    # The rest of the body is not read, so the connection cannot be used again.
    return TooLarge(f"the body exceeds the {limit} bytes allowed for {scope['path']}", headers={"Connection": "close"})


def require_json_content_type(content_type: str) -> None:
    """Raises UnsupportedMedia."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise UnsupportedMedia("the body must be JSON; send Content-Type: application/json")


def require_multipart_content_type(content_type: str) -> None:
    """Raises UnsupportedMedia."""
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        raise UnsupportedMedia("the body must be a form with files; send Content-Type: multipart/form-data")


def reject_oversized_json(body: bytes) -> None:
    """Rejects JSON that would take far more memory than its bytes, before it is parsed. Raises TooLarge."""
    value_count = body.count(b",") + body.count(b"[") + body.count(b"{")
    if value_count > _MAX_JSON_VALUES:
        raise TooLarge(f"the JSON has about {value_count} values; at most {_MAX_JSON_VALUES} are allowed")
