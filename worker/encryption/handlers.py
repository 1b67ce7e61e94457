"""Encryption and decryption of a request's images, in a warm worker while the request waits.

The request and its answer are sealed parcels in Redis (app/queue.py). All images are decoded before a key is stored, so
a bad one leaves nothing behind; new keys are committed before the answer goes out, under ids that the service reserved.
A repeat with the same ids finds its keys and so gives the same bytes.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import redis
from sqlalchemy import ARRAY, Integer, LargeBinary, Text, any_, bindparam, func, literal, select, update
from sqlalchemy.dialects.postgresql import JSONB, insert

from unveil.app.broker import Parcel, Parcels, answer_request, take_request
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Base, Key
from unveil.app.observability import failpoints
from unveil.app.observability.logging import about
from unveil.app.storage import StorageFailed
from unveil.models.catalog import Scheme, make_attack, make_scheme, new_secret, padded_size
from unveil.models.core.images import Images, pad, to_png
from unveil.worker import dataset_archive, dataset_loading, key_loading
from unveil.worker.encryption import codec, playground
from unveil.worker.runtime import Runtime

log = logging.getLogger(__name__)


class Refused(Exception):
    """The request cannot be done; `errors` are (code, pointer, detail) and the first code names the problem."""

    def __init__(self, errors: Sequence[tuple[str, str, str]]) -> None:
        super().__init__(errors)
        self.errors = errors


@dataclass(frozen=True)
class Source:
    """One decoded image of a request."""

    pixels: Images
    notes: list[str]
    original: tuple[int, int]  # width, height


def handle(tools: Runtime, id: str) -> None:
    """Answer request `id`, if it still waits."""
    client, parcels = _redis(tools.settings.redis_url, os.getpid()), Parcels(tools.ring)
    request = take_request(client, parcels, id)
    if request is None:
        log.info("request %s is no longer wanted", id)
        return
    head, began = request.head, time.monotonic()
    with about(request_id=head.get("request"), account_id=head.get("account")):
        answered = answer(tools, request)
        seconds = round(time.monotonic() - began, 3)
        outcome = next((name for name in ("refused", "failed") if name in answered.head), "done")
        log.info("%s %s", head["op"], outcome, extra={"seconds": seconds, "parts": len(request.parts)})
    failpoints.point("encrypted-before-answer")
    answer_request(client, parcels, id, answered)


def answer(tools: Runtime, request: Parcel) -> Parcel:
    """What to send back; a failure too, so that nobody waits in vain."""
    try:
        return _OPERATIONS[request.head["op"]](tools, request)
    except Refused as refused:
        return Parcel({"refused": refused.errors})
    except StorageFailed as failed:
        log.exception("the storage fails")
        return Parcel({"storage": failed.code})
    except Exception:
        log.exception("request failed")
        return Parcel({"failed": True})


def _encrypt(tools: Runtime, request: Parcel) -> Parcel:
    head = request.head
    scheme = make_scheme(head["scheme"], head["params"])
    sources = _decode_all(tools, request, _any_image)
    padded = [pad(source.pixels[None], scheme.multiple)[0] for source in sources]
    rows = _rows(tools, head, padded)
    images = _under_keys(tools, scheme, padded, [rows[key] for key in head["keys"]], "encrypt")
    heads, pngs = [], []
    for source, image, key_id in zip(sources, images, head["keys"], strict=True):
        width, height = source.original
        is_padded = (height, width) != image.shape[:2]
        notes = [*source.notes]
        if is_padded:
            notes.append(f"padded to {image.shape[1]}x{image.shape[0]} by edge replication")
        pngs.append(to_png(image, {codec.ORIGINAL: f"{width}x{height}"} if is_padded else None))
        heads.append(_shown(key_id, image, source.original, notes))
    return Parcel({"images": heads}, pngs)


def _decrypt(tools: Runtime, request: Parcel) -> Parcel:
    head = request.head
    scheme = make_scheme(head["scheme"], head["params"])
    sources = _decode_all(tools, request, _exact_image)
    _check_sides(sources, scheme, head["files"])
    protected = [source.pixels for source in sources]
    rows = _rows(tools, head, protected)
    images = _under_keys(tools, scheme, protected, [rows[key] for key in head["keys"]], "decrypt")
    heads, pngs = [], []
    for source, whole, key_id in zip(sources, images, head["keys"], strict=True):
        width, height = source.original
        image = np.ascontiguousarray(whole[:height, :width])
        pngs.append(to_png(image))
        cropped = image.shape != whole.shape
        heads.append(_shown(key_id, image, source.original, [f"cropped to {width}x{height}"] if cropped else []))
    return Parcel({"images": heads}, pngs)


def _look(tools: Runtime, request: Parcel) -> Parcel:
    """What one attack sees of an image that is protected with a stored key."""
    head = request.head
    scheme = make_scheme(head["scheme"], head["params"])
    (source,) = _decode_all(tools, request, _any_image)
    picture = pad(source.pixels[None], scheme.multiple)[0]
    (row,) = _rows(tools, head, [picture]).values()
    key = key_loading.loaded(tools, scheme, row, *picture.shape[:2])
    secret = key_loading.secret(tools, row) if scheme.key_per_image else None
    return Parcel(*playground.look(scheme, make_attack(head["attack"], head["settings"]), picture, key, secret))


def _photograph(_: Runtime, request: Parcel) -> Parcel:
    return Parcel({}, [playground.photograph(request.head["name"])])


def _small_set(_: Runtime, request: Parcel) -> Parcel:
    return Parcel({}, [playground.small_set(request.head["height"], request.head["width"])])


def _strip(tools: Runtime, request: Parcel) -> Parcel:
    return Parcel({}, [dataset_loading.strip(tools, request.head["account"], request.head["dataset"])])


def _dataset(tools: Runtime, request: Parcel) -> Parcel:
    return Parcel(dataset_archive.handle(request.head, tools.blobs, tools.settings, _archive_decoder(tools)))


_OPERATIONS: dict[str, Callable[[Runtime, Parcel], Parcel]] = {
    "encrypt": _encrypt,
    "decrypt": _decrypt,
    "look": _look,
    "photograph": _photograph,
    "small set": _small_set,
    "strip": _strip,
    "dataset": _dataset,
}


def _shown(key_id: str, image: Images, original: tuple[int, int], notes: list[str]) -> dict[str, Any]:
    height, width = image.shape[:2]
    return {
        "key_id": key_id, "width": width, "height": height,
        "original_width": original[0], "original_height": original[1], "notes": notes,
    }  # fmt: skip


# --- images in ---


def _decode_all(tools: Runtime, request: Parcel, read: Any) -> list[Source]:
    """Every image, or every refusal at once. Headers first: nothing is decoded of a request that is too large."""
    settings, files = tools.settings, request.head["files"]
    opened: list[codec.Opened] = _each(
        files,
        (
            partial(codec.inspect, data, file["type"], max_pixels=settings.max_pixels)
            for file, data in zip(files, request.parts, strict=True)
        ),
    )
    total = sum(file.pixels for file in opened)
    if total > settings.max_request_pixels:
        detail = f"together the images have {total} pixels; a request takes {settings.max_request_pixels}: send fewer"
        raise Refused([("image_too_large", "/images", detail)])
    sources: list[Source] = _each(files, (partial(read, *pair) for pair in zip(files, opened, strict=True)))
    return sources


def _each(files: Sequence[dict[str, Any]], steps: Iterable[Any]) -> list[Any]:
    done, errors = [], []
    for index, step in enumerate(steps):
        try:
            done.append(step())
        except codec.BadImage as error:
            errors.append((error.code, f"/images/{index}", f"{files[index]['name']} {error.detail}"))
    if errors:
        raise Refused(errors)
    return done


def _any_image(_: dict[str, Any], opened: codec.Opened) -> Source:
    decoded = codec.decode(opened)
    height, width = decoded.pixels.shape[:2]
    return Source(decoded.pixels, decoded.notes, (width, height))


def _exact_image(file: dict[str, Any], opened: codec.Opened) -> Source:
    """The original size is what the request says, else what the file says, else the file's own."""
    pixels, written = codec.decode_exact(opened)
    height, width = pixels.shape[:2]
    original = tuple(file["original"]) if file.get("original") else written or (width, height)
    if original[0] > width or original[1] > height:
        raise codec.BadImage(
            "size_mismatch", f"is {width}x{height} and holds no original of {original[0]}x{original[1]}"
        )
    return Source(pixels, [], (original[0], original[1]))


def _check_sides(sources: Sequence[Source], scheme: Scheme[Any, Any], files: Sequence[dict[str, Any]]) -> None:
    errors = []
    for index, source in enumerate(sources):
        height, width = source.pixels.shape[:2]
        if padded_size(height, width, scheme.multiple) != (height, width):
            detail = (
                f"{files[index]['name']} is {width}x{height}; {scheme.name} gives sides that are multiples of "
                f"{scheme.multiple}: send the file that encryption gave"
            )
            errors.append(("size_mismatch", f"/images/{index}", detail))
    if errors:
        raise Refused(errors)


def _archive_decoder(tools: Runtime) -> dataset_archive.Decode:
    def decode(name: str, data: bytes) -> Images:
        try:
            return codec.decode(codec.inspect(data, max_pixels=tools.settings.max_pixels)).pixels
        except codec.BadImage as error:
            raise dataset_archive.BadArchive(f"{name} {error.detail}") from None

    return decode


# --- keys ---


def _rows(tools: Runtime, head: dict[str, Any], images: Sequence[Images]) -> dict[str, Key]:
    """The keys by id, fit for use; those that the request wants new are drawn and committed here. Raises Refused."""
    owner, ids = head["account"], head["keys"]
    uses = Counter(ids)
    found = _draw(tools, head, uses) if head["draw"] else _counted(tools, head, uses)
    if len(found) == len(uses):
        return found
    with tools.sessions.begin() as session:
        # Locked in one order, so that two requests never wait for each other.
        mine = select(Key).where(Key.id.in_(uses), Key.account_id == owner).order_by(Key.id).with_for_update()
        rows = {row.id: row for row in session.scalars(mine)}
        for id in uses:
            if id not in rows:
                raise Refused([("unknown_key", "/key_id", f"there is no key {id}")])
            if rows[id].destroyed_at is not None:
                raise _destroyed(id)
        _check_sizes([rows[id] for id in ids], images, head["files"])
        if not head["draw"]:  # else an earlier try of this very request drew them, and counted
            for id, row in rows.items():
                row.uses += uses[id]
    return rows


def _destroyed(id: str) -> Refused:
    return Refused([("key_destroyed", "/key_id", f"{id} was destroyed")])


_KEYS = Base.metadata.tables[Key.__tablename__]
_NEW = (
    func.unnest(
        bindparam("ids", type_=ARRAY(Text)),
        bindparam("sealed", type_=ARRAY(LargeBinary)),
        bindparam("uses", type_=ARRAY(Integer)),
    )
    .table_valued("id", "sealed", "uses")
    .render_derived()
)
# One statement, whatever the number of keys; made once, for making it costs more than running it.
_DRAW = (
    insert(_KEYS)
    .from_select(
        ["id", "sealed", "uses", "account_id", "scheme", "params", "status", "progress", "finished_at"],
        select(
            *_NEW.c, bindparam("owner"), bindparam("scheme"), bindparam("params", type_=JSONB),
            literal(Status.SUCCEEDED.value), literal(1.0), func.clock_timestamp(),
        ),
    )
    .on_conflict_do_nothing(index_elements=[Key.id])
    .returning(_KEYS.c.id)
)  # fmt: skip


# In one order, so that two requests never wait for each other.
_FIT = (
    select(_KEYS.c.id)
    .where(
        _KEYS.c.id == any_(bindparam("ids", type_=ARRAY(Text))),
        _KEYS.c.account_id == bindparam("owner"),
        _KEYS.c.destroyed_at.is_(None),
        _KEYS.c.width.is_(None),  # explicit maps fit one size only
    )
    .order_by(_KEYS.c.id)
    .with_for_update()
    .cte()
)
_GIVEN = (
    func.unnest(bindparam("ids", type_=ARRAY(Text)), bindparam("uses", type_=ARRAY(Integer)))
    .table_valued("id", "uses")
    .render_derived()
)
_COUNT = (
    update(Key)
    .where(
        Key.id == _FIT.c.id,
        Key.id == _GIVEN.c.id,
        select(func.count()).select_from(_FIT).scalar_subquery() == bindparam("wanted"),
    )
    .values(uses=Key.uses + _GIVEN.c.uses)
    .returning(Key)
    .execution_options(synchronize_session=False)
)


def _counted(tools: Runtime, head: dict[str, Any], uses: Mapping[str, int]) -> dict[str, Key]:
    """The keys by id, their use counted, where there is nothing to say against any of them; else none, and nothing is
    counted."""
    with tools.sessions() as session:
        session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        given = {"ids": list(uses), "uses": list(uses.values()), "wanted": len(uses), "owner": head["account"]}
        return {row.id: row for row in session.scalars(_COUNT, given)}


def _draw(tools: Runtime, head: dict[str, Any], uses: Mapping[str, int]) -> dict[str, Key]:
    """A row for each id that has none yet -> those rows, as far as encryption needs them. Committed."""
    owner = head["account"]
    sealed = {id: tools.ring.seal(new_secret(), purpose="key", owner=owner, id=id) for id in uses}
    given = {"ids": list(uses), "sealed": list(sealed.values()), "uses": list(uses.values())}
    order = {"owner": owner, "scheme": head["scheme"], "params": head["params"]}
    with tools.sessions() as session:
        # One statement is one transaction: one wait for the database, not three.
        session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        drawn = session.scalars(_DRAW, {**given, **order}).all()
    return {id: Key(id=id, account_id=owner, sealed=sealed[id]) for id in drawn}


def _check_sizes(keys: Sequence[Key], images: Sequence[Images], files: Sequence[dict[str, Any]]) -> None:
    """Raises Refused for explicit maps of another size, before their use is counted."""
    errors = []
    for index, (key, image, file) in enumerate(zip(keys, images, files, strict=True)):
        height, width = image.shape[:2]
        if key.width is not None and (key.width, key.height) != (width, height):
            detail = (
                f"{file['name']} is {width}x{height}, and {key.id} holds explicit maps for {key.width}x{key.height} "
                "(width x height): resize the image or use a key without explicit maps"
            )
            errors.append(("size_mismatch", f"/images/{index}", detail))
    if errors:
        raise Refused(errors)


def _under_keys(
    tools: Runtime, scheme: Scheme[Any, Any], images: Sequence[Images], rows: Sequence[Key], direction: str
) -> list[Images]:
    """Each image under its key; those of one key and size in one go, for they share the work of deriving it."""
    groups: dict[tuple[str, int, int], list[int]] = {}
    for index, (image, row) in enumerate(zip(images, rows, strict=True)):
        groups.setdefault((row.id, *image.shape[:2]), []).append(index)
    done: dict[int, Images] = {}
    for (id, height, width), members in groups.items():
        try:
            key = key_loading.loaded(tools, scheme, rows[members[0]], height, width)
        except FileNotFoundError:  # since we looked at its row
            raise _destroyed(id) from None
        stacked = np.stack([images[index] for index in members])
        changed = scheme.encrypt(stacked, key) if direction == "encrypt" else scheme.decrypt(stacked, key)
        done.update(zip(members, changed, strict=True))
    return [done[index] for index in range(len(images))]


@cache
def _redis(url: str, pid: int) -> redis.Redis:  # noqa: ARG001 - the cache key: a forked child makes its own
    return redis.Redis.from_url(url)
