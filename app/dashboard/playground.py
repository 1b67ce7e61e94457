"""The playground: a picture under every scheme by the API's own routes, and what attacks that train nothing see of it.

A look is worked out by an encryption worker, as encryption itself: pictures are small and an account has one look at
a time, so that it holds one worker for seconds at most.
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

from unveil.app.broker import Parcel
from unveil.app.dashboard import queries
from unveil.app.dashboard.rendering import PageRoute, page
from unveil.app.db.ids import new_id
from unveil.app.db.tables import Key
from unveil.app.dependencies import Services, Session, Svc
from unveil.app.encryption.service import hand_over
from unveil.app.errors.problem import Invalid, NotFound, TooMany
from unveil.app.evaluations import serializers
from unveil.app.http.authentication import CallerFirst, Encryptor
from unveil.app.http.uploads import read_form
from unveil.app.keys.service import find, ready, scheme_of
from unveil.app.report.labels import title
from unveil.app.security.principal import Caller
from unveil.models import catalog

router = APIRouter()
pages = APIRouter(route_class=PageRoute)
calls = APIRouter(route_class=CallerFirst)

SMALLEST, SIDE = 16, 256  # of a picture, in pixels: what attacks read in seconds
PHOTOGRAPHS = {"astronaut": "Astronaut", "coffee": "Coffee", "cat": "Cat", "rocket": "Rocket"}
_FIELDS = frozenset({"key_id", "attack"})
_SETTINGS: dict[str, dict[str, Any]] = {"key-recovery": {"curve": False}}  # one number of ciphertexts is enough here
_DAY = {"Cache-Control": "private, max-age=86400"}


class OneAtATime(TooMany):
    code, title = "playground_busy", "Another look of this account is being worked out"


@dataclass(frozen=True)
class Shown:
    """A scheme on the page."""

    title: str
    name: str
    params: dict[str, Any]
    key_id: str | None  # of a trained scheme; the others draw one with the first picture
    per_image: bool
    invertible: bool
    looks: list[tuple[str, str | None]]  # attack, and why it cannot be run


def attacks() -> list[str]:
    """Those that work from ciphertexts alone and train nothing, the unattacked ciphertext first."""
    quick = [
        name
        for name, attack in catalog.attacks().items()
        if attack.threat_model is catalog.ThreatModel.CIPHERTEXT_ONLY and not attack.learned
    ]
    return ["none", *(name for name in quick if name not in ("none", "brute-force"))]


@pages.get("/dashboard/playground")
async def show_playground(request: Request, caller: Encryptor, session: Session) -> Response:
    trains = [name for name, scheme in catalog.schemes().items() if scheme.trains]
    keys = await queries.newest_ready(session, caller.account_id, trains)
    return page(
        request,
        "playground.html",
        caller,
        shown=[_shown(scheme, keys.get(scheme["name"])) for scheme in _entries(keys)],
        missing=[name for name in trains if name not in keys],
        attacks={name: title({"name": name}) for name in attacks()},
        photographs=PHOTOGRAPHS,
        side=SIDE,
    )


def _entries(keys: Mapping[str, Key]) -> list[dict[str, Any]]:
    """Every variant of every scheme that is ready, as an order names it."""
    entries: list[dict[str, Any]] = []
    for name, kind in catalog.schemes().items():
        if name in keys:
            entries.append({"name": name, **keys[name].params})
        elif not kind.trains:
            entries += [{"name": name, **variant["params"]} for variant in catalog.describe_scheme(name)["variants"]]
    return sorted(entries, key=lambda entry: serializers.paper_of(entry) is None)  # the paper's own first


def _shown(entry: dict[str, Any], key: Key | None) -> Shown:
    params = {name: value for name, value in entry.items() if name != "name"}
    scheme = catalog.make_scheme(entry["name"], params)
    return Shown(
        title=title(catalog.settings_of(scheme)),
        name=scheme.name,
        params=params,
        key_id=key.id if key else None,
        per_image=scheme.key_per_image,
        invertible=scheme.invertible,
        looks=[(name, catalog.make_attack(name, {}).refuses(scheme)) for name in attacks()],
    )


@calls.post("/dashboard/playground/look")
async def look(request: Request, caller: Encryptor, svc: Svc, session: Session) -> Response:
    """What one attack sees of a picture protected with a key, and of the small set under the same key."""
    async with read_form(request, "images", _FIELDS, 1) as form:
        name = form.one("attack")
        if name not in attacks():
            raise Invalid("there is no such look", [("/attack", f"must be one of {', '.join(attacks())}")])
        (key,) = await find(session, caller, [form.one("key_id") or ""])
        ready(key)
        refusal = catalog.make_attack(name, {}).refuses(scheme_of(key.scheme, key.params))
        if refusal:
            raise Invalid(f"{name} cannot be run on {key.scheme}: {refusal}", [("/attack", refusal)])
        (picture,) = form.files
        _check_small(picture.data)
        head = {
            "op": "look",
            "account": caller.account_id,
            "scheme": key.scheme,
            "params": key.params,
            "keys": [key.id],
            "draw": False,
            "attack": name,
            "settings": _SETTINGS.get(name, {}),
            "files": [{"name": picture.name, "type": picture.type}],
        }
        await session.rollback()  # the worker's answer is waited for without a database connection
        async with _alone(svc, caller):
            answer = await hand_over(svc, caller, Parcel(head, [picture.data]))
    pictures = [base64.b64encode(part).decode() for part in answer.parts]
    return JSONResponse({**answer.head, "pictures": pictures}, headers={"Cache-Control": "no-store"})


@calls.get("/dashboard/playground/photographs/{name}.png")
async def show_photograph(name: str, caller: Encryptor, svc: Svc) -> Response:
    """A photograph to try: it comes with scikit-image, which only workers need to have."""
    if name not in PHOTOGRAPHS:
        raise NotFound(f"there is no photograph {name!r}")
    answer = await hand_over(svc, caller, Parcel({"op": "photograph", "name": name}))
    return Response(answer.parts[0], media_type="image/png", headers=_DAY)


@calls.get("/dashboard/playground/set.png")
async def show_set(
    caller: Encryptor,
    svc: Svc,
    width: Annotated[int, Query(ge=SMALLEST, le=SIDE)],
    height: Annotated[int, Query(ge=SMALLEST, le=SIDE)],
) -> Response:
    """The small set that is protected with a picture of this size."""
    answer = await hand_over(svc, caller, Parcel({"op": "small set", "width": width, "height": height}))
    return Response(answer.parts[0], media_type="image/png", headers=_DAY)


def _check_small(data: bytes) -> None:
    """Raises Invalid for what a browser would have scaled down. Only the header is read."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            width, height = image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise Invalid("the picture cannot be read", [("/images/0", "must be a PNG")]) from None
    if not all(SMALLEST <= side <= SIDE for side in (width, height)):
        message = f"is {width}x{height}; the sides of a picture to look at are {SMALLEST} to {SIDE} pixels"
        raise Invalid(f"the picture {message}", [("/images/0", message)])


@asynccontextmanager
async def _alone(svc: Services, caller: Caller) -> AsyncIterator[None]:
    """Raises OneAtATime while another look of the account is under way."""
    lock, mine = f"unveil:look:{caller.account_id}", new_id("look")
    # It outlives no request: a service that dies here leaves the account waiting for a moment only.
    taken = await svc.redis.set(lock, mine, nx=True, ex=int(svc.settings.encrypt_budget_s) + 1)
    if not taken:
        raise OneAtATime("wait until it is there, then ask again", headers={"Retry-After": "1"})
    try:
        yield
    finally:
        if await svc.redis.get(lock) == mine.encode():
            await svc.redis.delete(lock)


router.include_router(pages)
router.include_router(calls)
