"""POST /encrypt and /decrypt."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from unveil.app.dependencies import Services, Svc
from unveil.app.encryption import service
from unveil.app.encryption.responses import NotAcceptable, render, wanted
from unveil.app.encryption.schemas import TransformOut
from unveil.app.errors.problem import BadRequest
from unveil.app.http.authentication import CallerFirst, Encryptor
from unveil.app.http.idempotency import Idempotent, Mismatch, Once, Running
from unveil.app.http.problems import problems
from unveil.app.http.uploads import TooManyParts, form_schema, read_form
from unveil.app.keys.service import KeyDestroyed, KeyNotReady, SizeMismatch, UnknownKey, UnknownScheme
from unveil.app.security.principal import Caller

router = APIRouter(tags=["encryption"], route_class=CallerFirst)

_KEY = {"type": "array", "items": {"type": "string"}, "description": "One, or one for each image"}
_FIELDS: dict[str, dict[str, Any]] = {
    "scheme": {"type": "string", "description": "See GET /schemes; with a key_id it may be left out"},
    "params": {"type": "string", "contentMediaType": "application/json", "description": "Settings of the scheme"},
    "key_id": _KEY,
}
_SIDE = {"type": "array", "items": {"type": "integer", "minimum": 1}, "description": "One, or one for each image"}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": TransformOut,
        "description": "As `Accept` says: JSON, a zip with manifest.json, or for one image the PNG",
        "content": {
            "application/zip": {"schema": {"type": "string", "format": "binary"}},
            "image/png": {"schema": {"type": "string", "format": "binary"}},
        },
    },
    **problems(
        BadRequest, UnknownKey, NotAcceptable, KeyNotReady, Running, KeyDestroyed, TooManyParts, service.ImageTooLarge,
        service.UnsupportedImage, UnknownScheme, SizeMismatch, service.KeyNeeded, service.WrongKey, service.BrokenImage,
        service.AnimatedImage, service.NotExact, service.NotInvertible, Mismatch, service.NoWorkerFree,
    ),
}  # fmt: skip


@router.post(
    "/encrypt",
    responses=_ANSWERS,
    response_class=Response,
    openapi_extra=form_schema(
        "images", _FIELDS, {"images": ["a.png"], "scheme": "pixelwise", "params": '{"key_mode":"same"}'}
    ),
)
async def encrypt(request: Request, caller: Encryptor, svc: Svc, once: Idempotent) -> Response:
    """Protect images. Without `key_id` a key is drawn and stored; its id is in the answer."""
    return await _transform("encrypt", request, caller, svc, once)


@router.post(
    "/decrypt",
    responses=_ANSWERS,
    response_class=Response,
    openapi_extra=form_schema(
        "images",
        {**_FIELDS, "original_width": _SIDE, "original_height": _SIDE},
        {"images": ["enc.png"], "key_id": ["key_0197f3c2a5d17a3b8c4d5e6f708192a3"]},
    ),
)
async def decrypt(request: Request, caller: Encryptor, svc: Svc, once: Idempotent) -> Response:
    """Restore protected images, bit for bit, cropped to their original size."""
    return await _transform("decrypt", request, caller, svc, once)


async def _transform(
    operation: service.Operation, request: Request, caller: Caller, svc: Services, once: Once
) -> Response:
    async with read_form(request, "images", service.FIELDS, svc.settings.max_files) as form:
        answer = wanted(request.headers.get("accept", ""), len(form.files))
        async with svc.sessions(bind=svc.autocommit) as session:  # over before the worker's answer is waited for
            plan = await service.plan(session, caller, operation, form, svc.settings.max_pixels)
        # Only the ids of the keys are kept: the same keys make the same bytes again.
        async with once.reserve(keys=plan.new_keys(len(form.files))) as ids:
            result = await service.carry_out(svc, caller, plan, form, ids["keys"])
    return await asyncio.to_thread(render, result, answer)
