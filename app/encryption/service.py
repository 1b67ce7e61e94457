"""Rules of /encrypt and /decrypt: which key for which image. A worker transforms the images while the request waits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.db.ids import new_id
from unveil.app.db.tables import Key
from unveil.app.dependencies import AppState
from unveil.app.errors.problem import (
    Invalid,
    KeyAuditOnly,
    KeyNeeded,
    NotAnImage,
    NotInvertible,
    WrongKey,
)
from unveil.app.http.uploads import MultipartForm
from unveil.app.keys.service import get_many, is_audit_only, make_scheme_or_422, require_ready
from unveil.app.observability.logging import current_request_id
from unveil.app.rpc.messages import ImageFile, Operation, Request, TransformedImage, TransformReply, TransformRequest
from unveil.app.security.principal import Principal
from unveil.models.catalog import Scheme

Reply = TypeVar("Reply")

FORM_FIELDS = frozenset(
    {"scheme", "params", "key_id", "allow_audit_key", "original_width", "original_height", "allow_changed"}
)
_DECRYPTION_FIELDS = ("original_width", "original_height", "allow_changed")
_SHORT_REQUEST_PIXELS = 2**20  # decoded, encrypted and encoded again in about a second
_PNG_HEADER = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"  # followed by the width and the height


@dataclass(frozen=True)
class TransformPlan:
    """A checked request, except for the ids of new keys."""

    operation: Operation
    scheme: Scheme[Any, Any]
    key_ids: list[str]  # one per image; empty if the worker draws new keys
    original_sizes: list[tuple[int, int]]  # (width, height), one per image, or empty
    allow_changed: bool = False

    def new_key_ids(self, images: int) -> list[str]:
        """New ids, one per image: all the same unless the scheme has a key per image."""
        if self.key_ids:
            return []
        return [new_id("key") for _ in range(images)] if self.scheme.key_per_image else [new_id("key")] * images


@dataclass(frozen=True)
class TransformResult:
    scheme: Scheme[Any, Any]
    filenames: list[str]
    images: list[TransformedImage]


async def plan_transform(
    session: AsyncSession, principal: Principal, operation: Operation, form: MultipartForm, max_pixels: int
) -> TransformPlan:
    """Choose scheme and keys. max_pixels: limit of one image.

    Raises Invalid and its subclasses, UnknownKey, KeyDestroyed, KeyNotReady, KeyAuditOnly.
    """
    name, params, count = form.single("scheme"), _parse_params(form.single("params")), len(form.files)
    ids = form.fields.get("key_id", [])
    is_decrypt = operation is Operation.DECRYPT
    if not is_decrypt:
        _reject_decryption_fields(form)
    original_sizes = _parse_original_sizes(form, count, max_pixels)
    allow_changed, allow_audit_key = _parse_flag(form, "allow_changed"), _parse_flag(form, "allow_audit_key")
    if not ids:
        if is_decrypt:
            raise KeyNeeded("name the key that the images were encrypted with", [("/key_id", "is missing")])
        if name is None:
            raise Invalid("name a scheme or a key", [("/scheme", "is missing")])
        scheme = make_scheme_or_422(name, params)
        if scheme.trains:
            message = f"{name} needs the key_id of a trained key; train one with POST /keys"
            raise KeyNeeded(message, [("/key_id", message)])
        _check_applicable(operation, scheme)
        return TransformPlan(operation, scheme, [], original_sizes)

    if len(ids) not in (1, count):
        raise Invalid("wrong number of keys", [("/key_id", _wrong_count_detail(count, len(ids)))])
    keys = await get_many(session, principal, ids)
    first = keys[0]
    for key in keys:
        require_ready(key)
        if (key.scheme, key.params) != (first.scheme, first.params):
            raise WrongKey("all keys of a request must share scheme and params", [("/key_id", f"{key.id} differs")])
    _check_audit_only(keys, allowed=is_decrypt or allow_audit_key)
    if name is not None and name != first.scheme:
        raise WrongKey(f"{first.id} is a key of {first.scheme}", [("/scheme", f"must be {first.scheme} or left out")])
    scheme = make_scheme_or_422(first.scheme, {**first.params, **params})
    if vars(scheme.settings) != first.params:
        raise WrongKey(f"{first.id} was made with other params", [("/params", f"must be {json.dumps(first.params)}")])
    if scheme.key_per_image and len(ids) < count:
        message = f"{first.id} is the key of one image; send one key_id for each image"
        raise WrongKey(message, [("/key_id", message)])
    _check_applicable(operation, scheme)
    key_ids = ids if len(ids) == count else ids * count
    return TransformPlan(operation, scheme, key_ids, original_sizes, allow_changed)


def _check_applicable(operation: Operation, scheme: Scheme[Any, Any]) -> None:
    """Raises NotInvertible, NotAnImage."""
    if operation is Operation.DECRYPT and not scheme.invertible:
        raise NotInvertible(f"images that {scheme.name} protects cannot be decrypted exactly")
    if operation is Operation.ENCRYPT and not scheme.has_image_ciphertext:
        form = scheme.ciphertext
        shape = " x ".join(map(str, form.shape or ()))
        raise NotAnImage(
            f"a ciphertext of {scheme.name} is {form.dtype} {shape}, which no image holds without loss; an evaluation "
            "attacks it as it is"
        )


def _check_audit_only(keys: Sequence[Key], *, allowed: bool) -> None:
    """Raises KeyAuditOnly."""
    audit_key = next(filter(is_audit_only, keys), None)
    if audit_key is not None and not allowed:
        raise KeyAuditOnly(
            f"{audit_key.id} was trained for an evaluation, whose settings name its seed, so others can train the "
            "same key. Train a key with POST /keys and no seed, or send allow_audit_key=true",
            [("/key_id", "is for audits only")],
        )


async def execute(
    app_state: AppState, principal: Principal, plan: TransformPlan, form: MultipartForm, new_key_ids: list[str]
) -> TransformResult:
    """Raises the problems of the worker, NoWorker, and broker errors."""
    sizes: Sequence[tuple[int, int] | None] = plan.original_sizes or [None] * len(form.files)
    request = TransformRequest(
        account_id=principal.account_id,
        request_id=current_request_id(),
        operation=plan.operation,
        scheme=plan.scheme.name,
        settings=vars(plan.scheme.settings),
        key_ids=plan.key_ids or new_key_ids,
        draw_keys=not plan.key_ids,
        allow_changed=plan.allow_changed,
        images=[ImageFile(file.name, file.data, size) for file, size in zip(form.files, sizes, strict=True)],
    )
    short = not plan.scheme.trains and _are_small_pngs(request.images)
    reply = await call_worker(app_state, request, TransformReply, short=short)
    return TransformResult(plan.scheme, [file.name for file in form.files], reply.images)


async def call_worker(app_state: AppState, request: Request, reply_type: type[Reply], *, short: bool = False) -> Reply:
    """For requests about images. Raises what WorkerClient.call raises."""
    timeout_s = app_state.settings.encrypt_timeout_s
    return await app_state.worker.call(request, reply_type, timeout_s=timeout_s, short=short)


def _are_small_pngs(images: Sequence[ImageFile]) -> bool:
    """Only a PNG names its size at a fixed position; other formats may hold many pixels in few bytes."""
    if not all(image.data.startswith(_PNG_HEADER) for image in images):
        return False
    pixels = sum(int.from_bytes(image.data[16:20]) * int.from_bytes(image.data[20:24]) for image in images)
    return pixels <= _SHORT_REQUEST_PIXELS


def _parse_params(text: str | None) -> dict[str, Any]:
    try:
        params = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        params = None
    if not isinstance(params, dict):
        raise Invalid("params is not valid JSON", [("/params", 'must be a JSON object, such as {"key_mode":"same"}')])
    return params


def _parse_original_sizes(form: MultipartForm, count: int, max_side: int) -> list[tuple[int, int]]:
    """(width, height) of each image; empty if the request names none."""
    widths, heights = (_parse_sides(form, name, count, max_side) for name in ("original_width", "original_height"))
    if bool(widths) != bool(heights):
        missing = "original_height" if widths else "original_width"
        raise Invalid("send both original_width and original_height, or neither", [(f"/{missing}", "is missing")])
    return list(zip(widths, heights, strict=True))


def _parse_sides(form: MultipartForm, name: str, count: int, max_side: int) -> list[int]:
    texts = form.fields.get(name, [])
    if len(texts) not in (0, 1, count):
        raise Invalid(f"wrong number of values of {name}", [(f"/{name}", _wrong_count_detail(count, len(texts)))])
    sides = []
    for index, text in enumerate(texts):
        side = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(max_side)) else 0
        if not 1 <= side <= max_side:
            raise Invalid(f"{name} is not a size", [(f"/{name}/{index}", f"must be 1 to {max_side} pixels")])
        sides.append(side)
    return sides * count if len(sides) == 1 else sides


def _wrong_count_detail(images: int, received: int) -> str:
    expected = "one for the one image" if images == 1 else f"one, or one for each of the {images} images"
    return f"send {expected}; got {received}"


def _reject_decryption_fields(form: MultipartForm) -> None:
    for name in _DECRYPTION_FIELDS:
        if name in form.fields:
            raise Invalid(f"{name} applies to decryption only", [(f"/{name}", "must be left out")])


def _parse_flag(form: MultipartForm, name: str) -> bool:
    text = (form.single(name) or "false").strip().lower()
    if text not in ("true", "false"):
        raise Invalid(f"{name} is not a boolean", [(f"/{name}", f"must be true or false; got {text[:20]!r}")])
    return text == "true"
