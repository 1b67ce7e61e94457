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

from unveil.app.broker import EncryptedMessageCodec, RpcMessage, pop_request, push_reply
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Base, Key
from unveil.app.observability import failpoints
from unveil.app.observability.logging import bind_log_context
from unveil.app.storage import StorageError
from unveil.models.catalog import Scheme, make_attack, make_scheme, new_secret, padded_size
from unveil.models.core.images import Images, pad, to_png
from unveil.worker import dataset_archive, dataset_loading, key_loading
from unveil.worker.encryption import codec, playground
from unveil.worker.runtime import Runtime

log = logging.getLogger(__name__)


class RequestRejected(Exception):
    """The request cannot be done; `errors` are (code, pointer, detail) and the first code names the problem."""

    def __init__(self, errors: Sequence[tuple[str, str, str]]) -> None:
        super().__init__(errors)
        self.errors = errors


@dataclass(frozen=True)
class DecodedImage:
    """One decoded image of a request."""

    pixels: Images
    notes: list[str]
    original: tuple[int, int]  # width, height


def handle_request(runtime: Runtime, id: str) -> None:
    """Answer request `id`, if it still waits."""
    client, message_codec = _redis(runtime.settings.redis_url, os.getpid()), EncryptedMessageCodec(runtime.keyring)
    request = pop_request(client, message_codec, id)
    if request is None:
        log.info("request %s is no longer wanted", id)
        return
    metadata, started_at = request.metadata, time.monotonic()
    with bind_log_context(request_id=metadata.get("request"), account_id=metadata.get("account")):
        reply = process_request(runtime, request)
        seconds = round(time.monotonic() - started_at, 3)
        outcome = next((name for name in ("refused", "failed") if name in reply.metadata), "done")
        log.info("%s %s", metadata["op"], outcome, extra={"seconds": seconds, "parts": len(request.attachments)})
    failpoints.failpoint("encrypted-before-answer")
    push_reply(client, message_codec, id, reply)


def process_request(runtime: Runtime, request: RpcMessage) -> RpcMessage:
    """What to send back; a failure too, so that nobody waits in vain."""
    try:
        return _OPERATIONS[request.metadata["op"]](runtime, request)
    except RequestRejected as rejection:
        return RpcMessage({"refused": rejection.errors})
    except StorageError as storage_error:
        log.exception("the storage fails")
        return RpcMessage({"storage": storage_error.code})
    except Exception:
        log.exception("request failed")
        return RpcMessage({"failed": True})


def _encrypt(runtime: Runtime, request: RpcMessage) -> RpcMessage:
    metadata = request.metadata
    scheme = make_scheme(metadata["scheme"], metadata["params"])
    sources = _decode_all(runtime, request, _decode_lossy)
    padded = [pad(source.pixels[None], scheme.size_multiple)[0] for source in sources]
    keys_by_id = _use_keys(runtime, metadata, padded)
    images = _transform_under_keys(runtime, scheme, padded, [keys_by_id[key] for key in metadata["keys"]], "encrypt")
    image_metadata, pngs = [], []
    for source, image, key_id in zip(sources, images, metadata["keys"], strict=True):
        width, height = source.original
        is_padded = (height, width) != image.shape[:2]
        notes = [*source.notes]
        if is_padded:
            notes.append(f"padded to {image.shape[1]}x{image.shape[0]} by edge replication")
        pngs.append(to_png(image, {codec.ORIGINAL_SIZE_KEY: f"{width}x{height}"} if is_padded else None))
        image_metadata.append(_image_metadata(key_id, image, source.original, notes))
    return RpcMessage({"images": image_metadata}, pngs)


def _decrypt(runtime: Runtime, request: RpcMessage) -> RpcMessage:
    metadata = request.metadata
    scheme = make_scheme(metadata["scheme"], metadata["params"])
    sources = _decode_all(runtime, request, _decode_lossless)
    _check_size_multiples(sources, scheme, metadata["files"])
    protected = [source.pixels for source in sources]
    keys_by_id = _use_keys(runtime, metadata, protected)
    images = _transform_under_keys(runtime, scheme, protected, [keys_by_id[key] for key in metadata["keys"]], "decrypt")
    image_metadata, pngs = [], []
    for source, decrypted, key_id in zip(sources, images, metadata["keys"], strict=True):
        width, height = source.original
        image = np.ascontiguousarray(decrypted[:height, :width])
        pngs.append(to_png(image))
        cropped = image.shape != decrypted.shape
        image_metadata.append(
            _image_metadata(key_id, image, source.original, [f"cropped to {width}x{height}"] if cropped else [])
        )
    return RpcMessage({"images": image_metadata}, pngs)


def _preview_attack(runtime: Runtime, request: RpcMessage) -> RpcMessage:
    """What one attack sees of an image that is protected with a stored key."""
    metadata = request.metadata
    scheme = make_scheme(metadata["scheme"], metadata["params"])
    (source,) = _decode_all(runtime, request, _decode_lossy)
    image = pad(source.pixels[None], scheme.size_multiple)[0]
    (row,) = _use_keys(runtime, metadata, [image]).values()
    key = key_loading.load_key(runtime, scheme, row, *image.shape[:2])
    secret = key_loading.decrypt_secret(runtime, row) if scheme.key_per_image else None
    return RpcMessage(
        *playground.preview_attack(scheme, make_attack(metadata["attack"], metadata["settings"]), image, key, secret)
    )


def _bundled_photo(_: Runtime, request: RpcMessage) -> RpcMessage:
    return RpcMessage({}, [playground.bundled_photo(request.metadata["name"])])


def _sample_mosaic(_: Runtime, request: RpcMessage) -> RpcMessage:
    return RpcMessage({}, [playground.sample_mosaic(request.metadata["height"], request.metadata["width"])])


def _thumbnail_strip(runtime: Runtime, request: RpcMessage) -> RpcMessage:
    return RpcMessage(
        {}, [dataset_loading.thumbnail_strip(runtime, request.metadata["account"], request.metadata["dataset"])]
    )


def _build_dataset(runtime: Runtime, request: RpcMessage) -> RpcMessage:
    return RpcMessage(
        dataset_archive.build_from_upload(
            request.metadata, runtime.blobs, runtime.settings, _make_archive_decoder(runtime)
        )
    )


_OPERATIONS: dict[str, Callable[[Runtime, RpcMessage], RpcMessage]] = {
    "encrypt": _encrypt,
    "decrypt": _decrypt,
    "look": _preview_attack,
    "photograph": _bundled_photo,
    "small set": _sample_mosaic,
    "strip": _thumbnail_strip,
    "dataset": _build_dataset,
}


def _image_metadata(key_id: str, image: Images, original: tuple[int, int], notes: list[str]) -> dict[str, Any]:
    height, width = image.shape[:2]
    return {
        "key_id": key_id, "width": width, "height": height,
        "original_width": original[0], "original_height": original[1], "notes": notes,
    }  # fmt: skip


# --- images in ---


def _decode_all(runtime: Runtime, request: RpcMessage, decode: Any) -> list[DecodedImage]:
    """Every image, or every refusal at once. Headers first: nothing is decoded of a request that is too large."""
    settings, files = runtime.settings, request.metadata["files"]
    inspected: list[codec.InspectedImage] = _run_each(
        files,
        (
            partial(codec.inspect, data, file["type"], max_pixels=settings.max_pixels)
            for file, data in zip(files, request.attachments, strict=True)
        ),
    )
    total = sum(file.pixels for file in inspected)
    if total > settings.max_request_pixels:
        detail = f"together the images have {total} pixels; a request takes {settings.max_request_pixels}: send fewer"
        raise RequestRejected([("image_too_large", "/images", detail)])
    sources: list[DecodedImage] = _run_each(
        files, (partial(decode, *pair) for pair in zip(files, inspected, strict=True))
    )
    return sources


def _run_each(files: Sequence[dict[str, Any]], steps: Iterable[Any]) -> list[Any]:
    results, errors = [], []
    for index, step in enumerate(steps):
        try:
            results.append(step())
        except codec.ImageError as error:
            errors.append((error.code, f"/images/{index}", f"{files[index]['name']} {error.detail}"))
    if errors:
        raise RequestRejected(errors)
    return results


def _decode_lossy(_: dict[str, Any], inspected: codec.InspectedImage) -> DecodedImage:
    decoded = codec.decode(inspected)
    height, width = decoded.pixels.shape[:2]
    return DecodedImage(decoded.pixels, decoded.notes, (width, height))


def _decode_lossless(file: dict[str, Any], inspected: codec.InspectedImage) -> DecodedImage:
    """The original size is what the request says, else what the file says, else the file's own."""
    pixels, embedded_size = codec.decode_lossless(inspected)
    height, width = pixels.shape[:2]
    original = tuple(file["original"]) if file.get("original") else embedded_size or (width, height)
    if original[0] > width or original[1] > height:
        raise codec.ImageError(
            "size_mismatch", f"is {width}x{height} and holds no original of {original[0]}x{original[1]}"
        )
    return DecodedImage(pixels, [], (original[0], original[1]))


def _check_size_multiples(
    sources: Sequence[DecodedImage], scheme: Scheme[Any, Any], files: Sequence[dict[str, Any]]
) -> None:
    errors = []
    for index, source in enumerate(sources):
        height, width = source.pixels.shape[:2]
        if padded_size(height, width, scheme.size_multiple) != (height, width):
            detail = (
                f"{files[index]['name']} is {width}x{height}; {scheme.name} gives sides that are multiples of "
                f"{scheme.size_multiple}: send the file that encryption gave"
            )
            errors.append(("size_mismatch", f"/images/{index}", detail))
    if errors:
        raise RequestRejected(errors)


def _make_archive_decoder(runtime: Runtime) -> dataset_archive.ImageDecoder:
    def decode(name: str, data: bytes) -> Images:
        try:
            return codec.decode(codec.inspect(data, max_pixels=runtime.settings.max_pixels)).pixels
        except codec.ImageError as error:
            raise dataset_archive.BadArchive(f"{name} {error.detail}") from None

    return decode


# --- keys ---


def _use_keys(runtime: Runtime, metadata: dict[str, Any], images: Sequence[Images]) -> dict[str, Key]:
    """The keys by id, fit for use; those that the request wants new are drawn and committed here. Raises Refused."""
    owner, ids = metadata["account"], metadata["keys"]
    uses = Counter(ids)
    existing = _insert_new(runtime, metadata, uses) if metadata["draw"] else _use_existing(runtime, metadata, uses)
    if len(existing) == len(uses):
        return existing
    with runtime.sessions.begin() as session:
        # Locked in one order, so that two requests never wait for each other.
        query = select(Key).where(Key.id.in_(uses), Key.account_id == owner).order_by(Key.id).with_for_update()
        rows = {row.id: row for row in session.scalars(query)}
        for id in uses:
            if id not in rows:
                raise RequestRejected([("unknown_key", "/key_id", f"there is no key {id}")])
            if rows[id].destroyed_at is not None:
                raise _key_destroyed(id)
        _check_key_sizes([rows[id] for id in ids], images, metadata["files"])
        if not metadata["draw"]:  # else an earlier try of this very request drew them, and counted
            for id, row in rows.items():
                row.uses += uses[id]
    return rows


def _key_destroyed(id: str) -> RequestRejected:
    return RequestRejected([("key_destroyed", "/key_id", f"{id} was destroyed")])


_KEYS_TABLE = Base.metadata.tables[Key.__tablename__]
_NEW_KEYS = (
    func.unnest(
        bindparam("ids", type_=ARRAY(Text)),
        bindparam("encrypted_secret", type_=ARRAY(LargeBinary)),
        bindparam("uses", type_=ARRAY(Integer)),
    )
    .table_valued("id", "encrypted_secret", "uses")
    .render_derived()
)
# One statement, whatever the number of keys; made once, for making it costs more than running it.
_INSERT_KEYS = (
    insert(_KEYS_TABLE)
    .from_select(
        ["id", "encrypted_secret", "uses", "account_id", "scheme", "params", "status", "progress", "finished_at"],
        select(
            *_NEW_KEYS.c, bindparam("owner"), bindparam("scheme"), bindparam("params", type_=JSONB),
            literal(Status.SUCCEEDED.value), literal(1.0), func.clock_timestamp(),
        ),
    )
    .on_conflict_do_nothing(index_elements=[Key.id])
    .returning(_KEYS_TABLE.c.id)
)  # fmt: skip


# In one order, so that two requests never wait for each other.
_USABLE_KEYS = (
    select(_KEYS_TABLE.c.id)
    .where(
        _KEYS_TABLE.c.id == any_(bindparam("ids", type_=ARRAY(Text))),
        _KEYS_TABLE.c.account_id == bindparam("owner"),
        _KEYS_TABLE.c.destroyed_at.is_(None),
        _KEYS_TABLE.c.width.is_(None),  # explicit maps fit one size only
    )
    .order_by(_KEYS_TABLE.c.id)
    .with_for_update()
    .cte()
)
_REQUESTED_USES = (
    func.unnest(bindparam("ids", type_=ARRAY(Text)), bindparam("uses", type_=ARRAY(Integer)))
    .table_valued("id", "uses")
    .render_derived()
)
_COUNT_USES = (
    update(Key)
    .where(
        Key.id == _USABLE_KEYS.c.id,
        Key.id == _REQUESTED_USES.c.id,
        select(func.count()).select_from(_USABLE_KEYS).scalar_subquery() == bindparam("wanted"),
    )
    .values(uses=Key.uses + _REQUESTED_USES.c.uses)
    .returning(Key)
    .execution_options(synchronize_session=False)
)


def _use_existing(runtime: Runtime, metadata: dict[str, Any], uses: Mapping[str, int]) -> dict[str, Key]:
    """The keys by id, their use counted, where there is nothing to say against any of them; else none, and nothing is
    counted."""
    with runtime.sessions() as session:
        session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        values = {"ids": list(uses), "uses": list(uses.values()), "wanted": len(uses), "owner": metadata["account"]}
        return {row.id: row for row in session.scalars(_COUNT_USES, values)}


def _insert_new(runtime: Runtime, metadata: dict[str, Any], uses: Mapping[str, int]) -> dict[str, Key]:
    """A row for each id that has none yet -> those rows, as far as encryption needs them. Committed."""
    owner = metadata["account"]
    secrets = {id: runtime.keyring.seal(new_secret(), purpose="key", owner=owner, id=id) for id in uses}
    values_per_key = {"ids": list(uses), "encrypted_secret": list(secrets.values()), "uses": list(uses.values())}
    shared_values = {"owner": owner, "scheme": metadata["scheme"], "params": metadata["params"]}
    with runtime.sessions() as session:
        # One statement is one transaction: one wait for the database, not three.
        session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        inserted_ids = session.scalars(_INSERT_KEYS, {**values_per_key, **shared_values}).all()
    return {id: Key(id=id, account_id=owner, encrypted_secret=secrets[id]) for id in inserted_ids}


def _check_key_sizes(keys: Sequence[Key], images: Sequence[Images], files: Sequence[dict[str, Any]]) -> None:
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
        raise RequestRejected(errors)


def _transform_under_keys(
    runtime: Runtime, scheme: Scheme[Any, Any], images: Sequence[Images], rows: Sequence[Key], direction: str
) -> list[Images]:
    """Each image under its key; those of one key and size in one go, for they share the work of deriving it."""
    groups: dict[tuple[str, int, int], list[int]] = {}
    for index, (image, row) in enumerate(zip(images, rows, strict=True)):
        groups.setdefault((row.id, *image.shape[:2]), []).append(index)
    results: dict[int, Images] = {}
    for (id, height, width), members in groups.items():
        try:
            key = key_loading.load_key(runtime, scheme, rows[members[0]], height, width)
        except FileNotFoundError:  # since we looked at its row
            raise _key_destroyed(id) from None
        stacked = np.stack([images[index] for index in members])
        transformed = scheme.encrypt(stacked, key) if direction == "encrypt" else scheme.decrypt(stacked, key)
        results.update(zip(members, transformed, strict=True))
    return [results[index] for index in range(len(images))]


@cache
def _redis(url: str, pid: int) -> redis.Redis:  # noqa: ARG001 - the cache key: a forked child makes its own
    return redis.Redis.from_url(url)
