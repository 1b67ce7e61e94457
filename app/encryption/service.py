"""Rules of /encrypt and /decrypt: which key for which image, then a worker does the work while the request waits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.broker import NoWorker, Parcel, ask
from unveil.app.db.ids import new_id
from unveil.app.dependencies import Services
from unveil.app.errors.problem import Invalid, Problem, TooLarge, Unavailable, UnsupportedMedia
from unveil.app.http.strict_request import NamedTwice, loads
from unveil.app.http.uploads import Form
from unveil.app.keys.service import KeyDestroyed, SizeMismatch, UnknownKey, find, ready, scheme_of
from unveil.app.observability.logging import request_id
from unveil.app.security.principal import Caller
from unveil.app.storage import FAILURES

FIELDS = frozenset({"scheme", "params", "key_id", "original_width", "original_height"})
_BRIEF = 2**20  # pixels that a cipher has done in about a second, reading and writing included
_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"  # then come width and height


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


_REFUSALS: dict[str, type[Problem]] = {
    kind.code: kind
    for kind in (
        BrokenImage, AnimatedImage, NotExact, ImageTooLarge, UnsupportedImage, SizeMismatch, UnknownKey, KeyDestroyed
    )
}  # fmt: skip

Operation = Literal["encrypt", "decrypt"]


@dataclass(frozen=True)
class Plan:
    """What a worker is to do, but for the ids of new keys."""

    operation: Operation
    scheme: str
    params: dict[str, Any]
    keys: list[str]  # one an image; empty where new ones are to be drawn
    per_image: bool
    originals: list[tuple[int, int]]  # (width, height), one an image, or empty

    def new_keys(self, images: int) -> list[str]:
        """Fresh ids, one an image: all the same unless the scheme has a key for each."""
        if self.keys:
            return []
        return [new_id("key") for _ in range(images)] if self.per_image else [new_id("key")] * images


@dataclass(frozen=True)
class Result:
    scheme: str
    params: dict[str, Any]
    images: list[dict[str, Any]]  # ImageOut without data
    pngs: list[bytes]


async def plan(session: AsyncSession, caller: Caller, operation: Operation, form: Form, max_pixels: int) -> Plan:
    """max_pixels: of an image. Raises Invalid and its kinds, UnknownKey, KeyDestroyed, KeyNotReady."""
    name, params, count = form.one("scheme"), _params(form.one("params")), len(form.files)
    ids = form.fields.get("key_id", [])
    originals = _originals(form, count, max_pixels) if operation == "decrypt" else _no_originals(form)
    if not ids:
        if operation == "decrypt":
            raise KeyNeeded("say with which key it was encrypted", [("/key_id", "is missing")])
        if name is None:
            raise Invalid("say which scheme to use, or which key", [("/scheme", "is missing")])
        scheme = scheme_of(name, params)
        if scheme.trains:
            message = f"{name} needs the key_id of a trained key; order one with POST /keys"
            raise KeyNeeded(message, [("/key_id", message)])
        return Plan(operation, scheme.name, vars(scheme.settings), [], scheme.key_per_image, originals)

    if len(ids) not in (1, count):
        raise Invalid("wrong number of keys", [("/key_id", _one_each(count, len(ids)))])
    keys = await find(session, caller, ids)
    first = keys[0]
    for key in keys:
        ready(key)
        if (key.scheme, key.params) != (first.scheme, first.params):
            raise WrongKey("all keys of a request must share scheme and params", [("/key_id", f"{key.id} differs")])
    if name is not None and name != first.scheme:
        raise WrongKey(f"{first.id} is a key of {first.scheme}", [("/scheme", f"must be {first.scheme} or left out")])
    scheme = scheme_of(first.scheme, {**first.params, **params})
    if vars(scheme.settings) != first.params:
        raise WrongKey(f"{first.id} was made with other params", [("/params", f"must be {json.dumps(first.params)}")])
    if scheme.key_per_image and len(ids) < count:
        message = f"{first.id} is the key of one image; send one key_id for each image"
        raise WrongKey(message, [("/key_id", message)])
    if operation == "decrypt" and not scheme.invertible:
        raise NotInvertible(f"what {first.scheme} protected cannot be restored exactly")
    chosen = ids if len(ids) == count else ids * count
    return Plan(operation, first.scheme, first.params, chosen, scheme.key_per_image, originals)


async def carry_out(svc: Services, caller: Caller, plan: Plan, form: Form, new_keys: list[str]) -> Result:
    """Raises the refusals of the worker, NoWorkerFree, and broker errors."""
    files = [{"name": file.name, "type": file.type} for file in form.files]
    for file, original in zip(files, plan.originals, strict=bool(plan.originals)):
        file["original"] = original  # type: ignore[assignment]
    head = {
        "op": plan.operation,
        "account": caller.account_id,
        "request": request_id.get(),
        "scheme": plan.scheme,
        "params": plan.params,
        "keys": plan.keys or new_keys,
        "draw": not plan.keys,
        "files": files,
    }
    parts = [file.data for file in form.files]
    answer = await hand_over(svc, caller, Parcel(head, parts), brief=_brief(plan, parts))
    names = ({"index": index, "filename": file.name} for index, file in enumerate(form.files))
    images = [{**name, **image} for name, image in zip(names, answer.head["images"], strict=True)]
    return Result(plan.scheme, plan.params, images, list(answer.parts))


async def hand_over(svc: Services, caller: Caller, parcel: Parcel, *, brief: bool = False) -> Parcel:
    """What an encryption worker makes of it. Raises its refusals, NoWorkerFree, and broker errors."""
    budget_s = svc.settings.encrypt_budget_s
    try:
        async with svc.turns.turn(svc.autocommit, caller.account_id, budget_s, brief=brief):
            answer = await ask(svc.messages, svc.redis, svc.parcels, new_id("work"), parcel, budget_s)
    except NoWorker:
        raise NoWorkerFree(
            f"no worker of the queue encrypt answered within {budget_s:g} s; try again",
            headers={"Retry-After": "5"},
        ) from None
    if "refused" in answer.head:
        raise _problem(answer.head["refused"])
    if "storage" in answer.head:
        raise FAILURES[answer.head["storage"]]
    if "failed" in answer.head:
        raise Problem("the worker failed on this request; its log says why")
    return answer


def _brief(plan: Plan, images: Sequence[bytes]) -> bool:
    """Of few bytes many pixels may come, and a network takes its time: neither is brief. A PNG begins with its size."""
    if scheme_of(plan.scheme, plan.params).trains or not all(image.startswith(_PNG) for image in images):
        return False
    return sum(int.from_bytes(image[16:20]) * int.from_bytes(image[20:24]) for image in images) <= _BRIEF


def _problem(refused: list[list[str]]) -> Problem:
    kind = _REFUSALS[refused[0][0]]
    details = [detail for _, _, detail in refused]
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return kind(details[0] + more, [(pointer, detail) for _, pointer, detail in refused])


def _params(text: str | None) -> dict[str, Any]:
    try:
        params = loads(text) if text else {}
    except NamedTwice as error:
        raise Invalid("params cannot be read", [("/params", str(error))]) from None
    except (ValueError, RecursionError):
        params = None
    if not isinstance(params, dict):
        raise Invalid("params cannot be read", [("/params", 'must be a JSON object, such as {"key_mode":"same"}')])
    return params


def _originals(form: Form, count: int, longest: int) -> list[tuple[int, int]]:
    """(width, height) for each image; empty when the request names none."""
    widths, heights = (_sides(form, name, count, longest) for name in ("original_width", "original_height"))
    if bool(widths) != bool(heights):
        missing = "original_height" if widths else "original_width"
        raise Invalid("send both sides of the original size, or neither", [(f"/{missing}", "is missing")])
    return list(zip(widths, heights, strict=True))


def _sides(form: Form, name: str, count: int, longest: int) -> list[int]:
    texts = form.fields.get(name, [])
    if len(texts) not in (0, 1, count):
        raise Invalid(f"wrong number of values of {name}", [(f"/{name}", _one_each(count, len(texts)))])
    sides = []
    for index, text in enumerate(texts):
        side = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(longest)) else 0
        if not 1 <= side <= longest:
            raise Invalid(f"{name} cannot be read", [(f"/{name}/{index}", f"must be 1 to {longest} pixels")])
        sides.append(side)
    return sides * count if len(sides) == 1 else sides


def _one_each(images: int, given: int) -> str:
    wanted = "one for the one image" if images == 1 else f"one, or one for each of the {images} images"
    return f"send {wanted}; got {given}"


def _no_originals(form: Form) -> list[tuple[int, int]]:
    for name in ("original_width", "original_height"):
        if name in form.fields:
            raise Invalid(f"{name} is for decryption", [(f"/{name}", "must be left out")])
    return []
