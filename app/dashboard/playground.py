"""The playground: an image under every scheme by the API's own routes, and previews of attacks that train nothing.

An encryption worker computes a preview. Images are small and an account has one preview at a time, so it occupies one
worker for seconds at most.
"""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from PIL import Image
from starlette.responses import JSONResponse, Response

from unveil.app.dashboard import queries
from unveil.app.dashboard.rendering import PageRoute, render_page
from unveil.app.db.ids import new_id
from unveil.app.db.tables import Key
from unveil.app.dependencies import AppState, AppStateDep, Session
from unveil.app.encryption.service import call_worker
from unveil.app.errors.problem import Invalid, NotFound, PlaygroundBusy
from unveil.app.http.authentication import AuthenticatedRoute, EncryptPrincipal
from unveil.app.http.uploads import read_form
from unveil.app.keys.service import get_many, make_scheme_or_422, require_ready
from unveil.app.observability.logging import current_request_id
from unveil.app.report.labels import paper_row, title
from unveil.app.rpc.messages import (
    BundledPhotoRequest,
    ImageFile,
    PngReply,
    PreviewReply,
    PreviewRequest,
    SampleMosaicRequest,
)
from unveil.app.security.principal import Principal
from unveil.models import catalog

router = APIRouter()
page_router = APIRouter(route_class=PageRoute)
api_router = APIRouter(route_class=AuthenticatedRoute)

MIN_SIDE, MAX_SIDE = 16, 256  # of an image, in pixels: small enough for attacks that take seconds
SAMPLE_PHOTOS = {"astronaut": "Astronaut", "coffee": "Coffee", "cat": "Cat", "rocket": "Rocket"}
_FIELDS = frozenset({"key_id", "attack"})
_ATTACK_SETTINGS: dict[str, dict[str, Any]] = {
    "key-recovery": {"curve": False}
}  # a single number of ciphertexts is enough here
_CACHE_ONE_DAY = {"Cache-Control": "private, max-age=86400"}


@dataclass(frozen=True)
class PlaygroundScheme:
    """A scheme on the page."""

    title: str
    name: str
    params: dict[str, Any]
    key_id: str | None  # of a trained scheme; the others draw one with the first image
    per_image: bool
    invertible: bool
    previews: list[tuple[str, str | None]]  # attack, and why it cannot be run


# What an attacker of the page has besides ciphertexts. Further attacks need images that the page does not have.
_MATERIAL = {
    catalog.ThreatModel.CIPHERTEXT_ONLY: "",
    catalog.ThreatModel.KNOWN_PLAINTEXT: "with the originals of four further images",
    catalog.ThreatModel.CHOSEN_PLAINTEXT: "with images of their choice protected",
}


def preview_attacks() -> dict[str, str]:
    """What the attacker has, by attack: of those that train nothing and turn images into images, the weakest first."""
    return {
        name: material
        for model, material in _MATERIAL.items()
        for name, attack in sorted(catalog.attacks().items(), key=lambda item: item[0] != "none")
        if attack.threat_model == model
        and not attack.learning_based
        and attack.takes == "view"
        and name != "brute-force"
    }


@page_router.get("/dashboard/playground")
async def show_playground(request: Request, principal: EncryptPrincipal, session: Session) -> Response:
    trains = [name for name, scheme in catalog.schemes().items() if scheme.trains]
    keys = await queries.latest_ready_keys(session, principal.account_id, trains, audit_only=False)
    return render_page(
        request,
        "playground.html",
        principal,
        shown=[_to_playground_scheme(scheme, keys.get(scheme["name"])) for scheme in _usable_variants(keys)],
        missing=[title({"name": name}) for name in trains if name not in keys],
        attacks={name: title({"name": name}) for name in preview_attacks()},
        material=preview_attacks(),
        photographs=SAMPLE_PHOTOS,
        side=MAX_SIDE,
    )


def _usable_variants(keys: Mapping[str, Key]) -> list[dict[str, Any]]:
    """Every variant of every scheme that is ready and encrypts to images, as an entry of a request."""
    entries: list[dict[str, Any]] = []
    for name, scheme in catalog.schemes().items():
        if name in keys:
            entries.append({"name": name, **keys[name].params})
        elif not scheme.trains and catalog.make_scheme(name, {}).has_image_ciphertext:
            entries += [{"name": name, **variant["params"]} for variant in catalog.describe_scheme(name)["variants"]]
    return sorted(entries, key=lambda entry: paper_row(entry) is None)  # the paper's own first


def _to_playground_scheme(entry: dict[str, Any], key: Key | None) -> PlaygroundScheme:
    params = {name: value for name, value in entry.items() if name != "name"}
    scheme = catalog.make_scheme(entry["name"], params)
    return PlaygroundScheme(
        title=title(catalog.flatten_settings(scheme)),
        name=scheme.name,
        params=params,
        key_id=key.id if key else None,
        per_image=scheme.key_per_image,
        invertible=scheme.invertible,
        previews=[(name, catalog.make_attack(name, {}).not_applicable_reason(scheme)) for name in preview_attacks()],
    )


@api_router.post("/dashboard/playground/preview")
async def preview_attack(
    request: Request, principal: EncryptPrincipal, app_state: AppStateDep, session: Session
) -> Response:
    """Run one attack on an image protected with a key, and on the sample set under the same key."""
    async with read_form(request, "images", _FIELDS, 1) as form:
        name = form.single("attack")
        if name not in preview_attacks():
            raise Invalid(f"unknown attack {name!r}", [("/attack", f"must be one of {', '.join(preview_attacks())}")])
        (key,) = await get_many(session, principal, [form.single("key_id") or ""])
        require_ready(key)
        reason = catalog.make_attack(name, {}).not_applicable_reason(make_scheme_or_422(key.scheme, key.params))
        if reason:
            raise Invalid(f"{name} does not apply to {key.scheme}: {reason}", [("/attack", reason)])
        (image,) = form.files
        _require_preview_size(image.data)
        preview_request = PreviewRequest(
            account_id=principal.account_id,
            request_id=current_request_id(),
            scheme=key.scheme,
            settings=key.params,
            key_id=key.id,
            attack=name,
            attack_settings=_ATTACK_SETTINGS.get(name, {}),
            image=ImageFile(image.name, image.data),
        )
        await session.rollback()  # waiting for the worker holds no database connection
        async with _one_preview_per_account(app_state, principal):
            reply = await call_worker(app_state, preview_request, PreviewReply)
    scores = {"failed_attack": reply.failure} if reply.scores is None else vars(reply.scores)
    images = [base64.b64encode(png).decode() for png in reply.images]
    return JSONResponse({**scores, "images": images}, headers={"Cache-Control": "no-store"})


@api_router.get("/dashboard/playground/photographs/{name}.png")
async def show_sample_photo(name: str, principal: EncryptPrincipal, app_state: AppStateDep) -> Response:
    """An example image. It comes from scikit-image, which only workers have."""
    if name not in SAMPLE_PHOTOS:
        raise NotFound(f"there is no example image {name!r}")
    reply = await call_worker(app_state, BundledPhotoRequest(account_id=principal.account_id, name=name), PngReply)
    return Response(reply.png, media_type="image/png", headers=_CACHE_ONE_DAY)


@api_router.get("/dashboard/playground/set.png")
async def show_sample_ciphertexts(
    principal: EncryptPrincipal,
    app_state: AppStateDep,
    width: Annotated[int, Query(ge=MIN_SIDE, le=MAX_SIDE)],
    height: Annotated[int, Query(ge=MIN_SIDE, le=MAX_SIDE)],
) -> Response:
    """The sample set that is protected with an image of this size."""
    request = SampleMosaicRequest(account_id=principal.account_id, width=width, height=height)
    reply = await call_worker(app_state, request, PngReply)
    return Response(reply.png, media_type="image/png", headers=_CACHE_ONE_DAY)


def _require_preview_size(data: bytes) -> None:
    """Raises Invalid for an image that the page would have scaled down. Reads the header only."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            width, height = image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise Invalid("the image cannot be read", [("/images/0", "must be a PNG")]) from None
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in (width, height)):
        message = f"is {width}x{height}; sides must have {MIN_SIDE} to {MAX_SIDE} pixels"
        raise Invalid(f"the image {message}", [("/images/0", message)])


@asynccontextmanager
async def _one_preview_per_account(app_state: AppState, principal: Principal) -> AsyncIterator[None]:
    """Raises PlaygroundBusy while another preview of the account is running."""
    lock_key, lock_token = f"unveil:preview:{principal.account_id}", new_id("preview")
    # The lock expires with the request's timeout, so a crash of the service blocks the account only briefly.
    acquired = await app_state.redis.set(
        lock_key, lock_token, nx=True, ex=int(app_state.settings.encrypt_timeout_s) + 1
    )
    if not acquired:
        raise PlaygroundBusy("wait until it has ended, then try again", headers={"Retry-After": "1"})
    try:
        yield
    finally:
        if await app_state.redis.get(lock_key) == lock_token.encode():
            await app_state.redis.delete(lock_key)


router.include_router(page_router)
router.include_router(api_router)
