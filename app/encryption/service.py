"""Rules of /encrypt and /decrypt: which key for which image, then a worker does the work while the request waits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.broker import RpcMessage, WorkerTimeout, call_worker
from unveil.app.db.ids import new_id
from unveil.app.dependencies import AppState
from unveil.app.errors.problem import Invalid, Problem, TooLarge, Unavailable, UnsupportedMedia
from unveil.app.http.strict_request import DuplicateKeyError, loads_unique
from unveil.app.http.uploads import MultipartForm
from unveil.app.keys.service import KeyDestroyed, SizeMismatch, UnknownKey, get_many, make_scheme_or_422, require_ready
from unveil.app.observability.logging import request_id
from unveil.app.security.principal import Principal
from unveil.app.storage import STORAGE_ERROR_BY_CODE

FORM_FIELDS = frozenset({"scheme", "params", "key_id", "original_width", "original_height"})
_SHORT_REQUEST_PIXELS = 2**20  # pixels that a cipher has done in about a second, reading and writing included
_PNG_HEADER = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"  # then come width and height


class KeyNeeded(Invalid):
    code, title = "key_needed", "A key must be named"


class WrongKey(Invalid):
    code, title = "wrong_key", "The key does not belong to what was asked"


class NotInvertible(Invalid):
    code, title = "not_invertible", "The scheme cannot be undone"


class BrokenImage(Invalid):
    code, title = "broken_image", "An image cannot be decoded"


class AnimatedImage(Invalid):
    code, title = "animated_image", "Animations are not taken"


class NotExact(Invalid):
    code, title = "not_exact", "The image is not what encryption gave"


class ImageTooLarge(TooLarge):
    code, title = "image_too_large", "An image has too many pixels"


class UnsupportedImage(UnsupportedMedia):
    code, title = "unsupported_image", "A file is not an image of a known kind"


class NoWorkerFree(Unavailable):
    code, title = "no_worker", "No encryption worker answered in time"


_PROBLEM_BY_CODE: dict[str, type[Problem]] = {
    kind.code: kind
    for kind in (
        BrokenImage, AnimatedImage, NotExact, ImageTooLarge, UnsupportedImage, SizeMismatch, UnknownKey, KeyDestroyed
    )
}  # fmt: skip

Operation = Literal["encrypt", "decrypt"]


@dataclass(frozen=True)
class TransformPlan:
    """What a worker is to do, but for the ids of new keys."""

    operation: Operation
    scheme: str
    params: dict[str, Any]
    key_ids: list[str]  # one an image; empty where new ones are to be drawn
    per_image: bool
    original_sizes: list[tuple[int, int]]  # (width, height), one an image, or empty

    def new_key_ids(self, images: int) -> list[str]:
        """Fresh ids, one an image: all the same unless the scheme has a key for each."""
        if self.key_ids:
            return []
        return [new_id("key") for _ in range(images)] if self.per_image else [new_id("key")] * images


@dataclass(frozen=True)
class TransformResult:
    scheme: str
    params: dict[str, Any]
    images: list[dict[str, Any]]  # ImageOut without data
    pngs: list[bytes]


async def plan_transform(
    session: AsyncSession, principal: Principal, operation: Operation, form: MultipartForm, max_pixels: int
) -> TransformPlan:
    """max_pixels: of an image. Raises Invalid and its kinds, UnknownKey, KeyDestroyed, KeyNotReady."""
    name, params, count = form.single("scheme"), _parse_params(form.single("params")), len(form.files)
    ids = form.fields.get("key_id", [])
    original_sizes = (
        _parse_original_sizes(form, count, max_pixels) if operation == "decrypt" else _reject_original_sizes(form)
    )
    if not ids:
        if operation == "decrypt":
            raise KeyNeeded("say with which key it was encrypted", [("/key_id", "is missing")])
        if name is None:
            raise Invalid("say which scheme to use, or which key", [("/scheme", "is missing")])
        scheme = make_scheme_or_422(name, params)
        if scheme.trains:
            message = f"{name} needs the key_id of a trained key; order one with POST /keys"
            raise KeyNeeded(message, [("/key_id", message)])
        return TransformPlan(operation, scheme.name, vars(scheme.settings), [], scheme.key_per_image, original_sizes)

    if len(ids) not in (1, count):
        raise Invalid("wrong number of keys", [("/key_id", _wrong_count_detail(count, len(ids)))])
    keys = await get_many(session, principal, ids)
    first = keys[0]
    for key in keys:
        require_ready(key)
        if (key.scheme, key.params) != (first.scheme, first.params):
            raise WrongKey("all keys of a request must share scheme and params", [("/key_id", f"{key.id} differs")])
    if name is not None and name != first.scheme:
        raise WrongKey(f"{first.id} is a key of {first.scheme}", [("/scheme", f"must be {first.scheme} or left out")])
    scheme = make_scheme_or_422(first.scheme, {**first.params, **params})
    if vars(scheme.settings) != first.params:
        raise WrongKey(f"{first.id} was made with other params", [("/params", f"must be {json.dumps(first.params)}")])
    if scheme.key_per_image and len(ids) < count:
        message = f"{first.id} is the key of one image; send one key_id for each image"
        raise WrongKey(message, [("/key_id", message)])
    if operation == "decrypt" and not scheme.invertible:
        raise NotInvertible(f"what {first.scheme} protected cannot be restored exactly")
    key_ids = ids if len(ids) == count else ids * count
    return TransformPlan(operation, first.scheme, first.params, key_ids, scheme.key_per_image, original_sizes)


async def execute(
    app_state: AppState, principal: Principal, plan: TransformPlan, form: MultipartForm, new_key_ids: list[str]
) -> TransformResult:
    """Raises the refusals of the worker, NoWorkerFree, and broker errors."""
    files = [{"name": file.name, "type": file.type} for file in form.files]
    for file, original_size in zip(files, plan.original_sizes, strict=bool(plan.original_sizes)):
        file["original"] = original_size  # type: ignore[assignment]
    metadata = {
        "op": plan.operation,
        "account": principal.account_id,
        "request": request_id.get(),
        "scheme": plan.scheme,
        "params": plan.params,
        "keys": plan.key_ids or new_key_ids,
        "draw": not plan.key_ids,
        "files": files,
    }
    attachments = [file.data for file in form.files]
    reply = await call_encryption_worker(
        app_state, principal, RpcMessage(metadata, attachments), short=_is_short(plan, attachments)
    )
    names = ({"index": index, "filename": file.name} for index, file in enumerate(form.files))
    images = [{**name, **image} for name, image in zip(names, reply.metadata["images"], strict=True)]
    return TransformResult(plan.scheme, plan.params, images, list(reply.attachments))


async def call_encryption_worker(
    app_state: AppState, principal: Principal, message: RpcMessage, *, short: bool = False
) -> RpcMessage:
    """What an encryption worker makes of it. Raises its refusals, NoWorkerFree, and broker errors."""
    timeout_s = app_state.settings.encrypt_timeout_s
    try:
        async with app_state.concurrency_limiter.slot(
            app_state.autocommit_engine, principal.account_id, timeout_s, short=short
        ):
            reply = await call_worker(
                app_state.celery, app_state.redis, app_state.message_codec, new_id("work"), message, timeout_s
            )
    except WorkerTimeout:
        raise NoWorkerFree(
            f"no worker of the queue encrypt answered within {timeout_s:g} s; try again",
            headers={"Retry-After": "5"},
        ) from None
    if "refused" in reply.metadata:
        raise _problem_from_rejections(reply.metadata["refused"])
    if "storage" in reply.metadata:
        raise STORAGE_ERROR_BY_CODE[reply.metadata["storage"]]
    if "failed" in reply.metadata:
        raise Problem("the worker failed on this request; its log says why")
    return reply


def _is_short(plan: TransformPlan, images: Sequence[bytes]) -> bool:
    """Of few bytes many pixels may come, and a network takes its time: neither is brief. A PNG begins with its size."""
    if make_scheme_or_422(plan.scheme, plan.params).trains or not all(
        image.startswith(_PNG_HEADER) for image in images
    ):
        return False
    return sum(int.from_bytes(image[16:20]) * int.from_bytes(image[20:24]) for image in images) <= _SHORT_REQUEST_PIXELS


def _problem_from_rejections(rejections: list[list[str]]) -> Problem:
    kind = _PROBLEM_BY_CODE[rejections[0][0]]
    details = [detail for _, _, detail in rejections]
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return kind(details[0] + more, [(pointer, detail) for _, pointer, detail in rejections])


def _parse_params(text: str | None) -> dict[str, Any]:
    try:
        params = loads_unique(text) if text else {}
    except DuplicateKeyError as error:
        raise Invalid("params cannot be read", [("/params", str(error))]) from None
    except (ValueError, RecursionError):
        params = None
    if not isinstance(params, dict):
        raise Invalid("params cannot be read", [("/params", 'must be a JSON object, such as {"key_mode":"same"}')])
    return params


def _parse_original_sizes(form: MultipartForm, count: int, max_side: int) -> list[tuple[int, int]]:
    """(width, height) for each image; empty when the request names none."""
    widths, heights = (_parse_sides(form, name, count, max_side) for name in ("original_width", "original_height"))
    if bool(widths) != bool(heights):
        missing = "original_height" if widths else "original_width"
        raise Invalid("send both sides of the original size, or neither", [(f"/{missing}", "is missing")])
    return list(zip(widths, heights, strict=True))


def _parse_sides(form: MultipartForm, name: str, count: int, max_side: int) -> list[int]:
    texts = form.fields.get(name, [])
    if len(texts) not in (0, 1, count):
        raise Invalid(f"wrong number of values of {name}", [(f"/{name}", _wrong_count_detail(count, len(texts)))])
    sides = []
    for index, text in enumerate(texts):
        side = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(max_side)) else 0
        if not 1 <= side <= max_side:
            raise Invalid(f"{name} cannot be read", [(f"/{name}/{index}", f"must be 1 to {max_side} pixels")])
        sides.append(side)
    return sides * count if len(sides) == 1 else sides


def _wrong_count_detail(images: int, received: int) -> str:
    expected = "one for the one image" if images == 1 else f"one, or one for each of the {images} images"
    return f"send {expected}; got {received}"


def _reject_original_sizes(form: MultipartForm) -> list[tuple[int, int]]:
    for name in ("original_width", "original_height"):
        if name in form.fields:
            raise Invalid(f"{name} is for decryption", [(f"/{name}", "must be left out")])
    return []
