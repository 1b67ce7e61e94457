"""POST /encrypt and /decrypt."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from unveil.app.dependencies import AppState, AppStateDep
from unveil.app.encryption import service
from unveil.app.encryption.responses import negotiate_media_type, render
from unveil.app.encryption.schemas import TransformOut
from unveil.app.errors.problem import (
    AnimatedImage,
    BadRequest,
    BrokenImage,
    CiphertextChanged,
    IdempotencyMismatch,
    IdempotencyRunning,
    ImageTooLarge,
    KeyAuditOnly,
    KeyDestroyed,
    KeyNeeded,
    KeyNotReady,
    NotAcceptable,
    NotExact,
    NotInvertible,
    NoWorker,
    PluginFailed,
    SizeMismatch,
    TooManyFiles,
    UnknownKey,
    UnsupportedImage,
    WrongKey,
)
from unveil.app.http.authentication import AuthenticatedRoute, EncryptPrincipal
from unveil.app.http.idempotency import IdempotencyDep, IdempotentRequest
from unveil.app.http.problems import problems
from unveil.app.http.uploads import form_schema, read_form
from unveil.app.rpc.messages import Operation
from unveil.app.security.principal import Principal

router = APIRouter(tags=["encryption"], route_class=AuthenticatedRoute)

_KEY_ID_SCHEMA = {"type": "array", "items": {"type": "string"}, "description": "One, or one per image"}
_FORM_FIELDS: dict[str, dict[str, Any]] = {
    "scheme": {"type": "string", "description": "See GET /schemes; optional with a key_id"},
    "params": {
        "type": "string",
        "contentMediaType": "application/json",
        "description": "Settings of the scheme",
    },
    "key_id": _KEY_ID_SCHEMA,
}
_ALLOW_AUDIT_KEY_SCHEMA = {"type": "boolean", "description": "Allow a key with `audit_only`, whose seed is not secret"}
_SIDE_SCHEMA = {
    "type": "array",
    "items": {"type": "integer", "minimum": 1},
    "description": "One, or one per image",
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": TransformOut,
        "description": "Depends on `Accept`: JSON, a zip with manifest.json, or for one image the PNG",
        "content": {
            "application/zip": {"schema": {"type": "string", "format": "binary"}},
            "image/png": {"schema": {"type": "string", "format": "binary"}},
        },
    },
    **problems(
        BadRequest,
        UnknownKey,
        NotAcceptable,
        KeyNotReady,
        KeyAuditOnly,
        IdempotencyRunning,
        KeyDestroyed,
        TooManyFiles,
        ImageTooLarge,
        UnsupportedImage,
        SizeMismatch,
        PluginFailed,
        KeyNeeded,
        WrongKey,
        BrokenImage,
        AnimatedImage,
        NotExact,
        CiphertextChanged,
        NotInvertible,
        IdempotencyMismatch,
        NoWorker,
    ),
}


@router.post(
    "/encrypt",
    responses=_RESPONSES,
    response_class=Response,
    openapi_extra=form_schema(
        "images",
        {**_FORM_FIELDS, "allow_audit_key": _ALLOW_AUDIT_KEY_SCHEMA},
        {"images": ["a.png"], "scheme": "pixelwise", "params": '{"key_mode":"same"}'},
    ),
)
async def encrypt(
    request: Request, principal: EncryptPrincipal, app_state: AppStateDep, idempotency: IdempotencyDep
) -> Response:
    """Encrypt images. Without `key_id` the service draws and stores a key; the response names its id."""
    return await _handle_transform(Operation.ENCRYPT, request, principal, app_state, idempotency)


@router.post(
    "/decrypt",
    responses=_RESPONSES,
    response_class=Response,
    openapi_extra=form_schema(
        "images",
        {
            **_FORM_FIELDS,
            "original_width": _SIDE_SCHEMA,
            "original_height": _SIDE_SCHEMA,
            "allow_changed": {
                "type": "boolean",
                "default": False,
                "description": "Decrypt even if the ciphertext was changed or belongs to another key, with a note",
            },
        },
        {"images": ["enc.png"], "key_id": ["key_0197f3c2a5d17a3b8c4d5e6f708192a3"]},
    ),
)
async def decrypt(
    request: Request, principal: EncryptPrincipal, app_state: AppStateDep, idempotency: IdempotencyDep
) -> Response:
    """Decrypt images, cropped to their original size.

    The tag in the PNG that `/encrypt` returned verifies ciphertext and key. If it matches, the image is restored
    bit for bit. A mismatch gives `ciphertext_changed`; without a tag, `notes` state that nothing was verified.
    """
    return await _handle_transform(Operation.DECRYPT, request, principal, app_state, idempotency)


async def _handle_transform(
    operation: Operation,
    request: Request,
    principal: Principal,
    app_state: AppState,
    idempotency: IdempotentRequest,
) -> Response:
    async with read_form(request, "images", service.FORM_FIELDS, app_state.settings.max_files) as form:
        media_type = negotiate_media_type(request.headers.get("accept", ""), len(form.files))
        # Closed before the wait for the worker, which must hold no database connection.
        async with app_state.sessions(bind=app_state.autocommit_engine) as session:
            plan = await service.plan_transform(session, principal, operation, form, app_state.settings.max_pixels)
        # The idempotency record keeps the key ids only: the same keys produce the same bytes.
        async with idempotency.begin(keys=plan.new_key_ids(len(form.files))) as ids:
            result = await service.execute(app_state, principal, plan, form, ids["keys"])
    return await asyncio.to_thread(render, result, media_type)
