"""Handle requests of the API, which waits for the reply: decode images, look up keys, transform.

The order protects the caller's data: all images are decoded before a key is stored, so an invalid image leaves nothing
behind, and keys are committed before the reply, under ids that the API reserved. A repetition with the same ids finds
its keys and produces the same bytes.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeVar

import numpy as np
import redis

from unveil.app import broker
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Key
from unveil.app.keys import queries as keys
from unveil.app.observability import failpoints
from unveil.app.observability.logging import bind_log_context
from unveil.app.rpc.codec import EncryptedMessageCodec, UndecodableMessage
from unveil.app.rpc.messages import (
    ArchiveReply,
    ArchiveRequest,
    BundledPhotoRequest,
    ImageFile,
    Operation,
    PngReply,
    PreviewReply,
    PreviewRequest,
    Rejection,
    Request,
    RequestRejected,
    SampleMosaicRequest,
    ThumbnailsRequest,
    TransformedImage,
    TransformReply,
    TransformRequest,
)
from unveil.app.security.envelope import DecryptionError
from unveil.app.storage import StorageError
from unveil.models.catalog import Scheme, effective_bits, make_attack, make_scheme, new_secret, padded_size
from unveil.models.core.images import Images, pad, to_png
from unveil.models.data import decoding
from unveil.worker import dataset_archive, dataset_loading, key_loading
from unveil.worker.encryption import ciphertext, playground
from unveil.worker.encryption.plugin_errors import plugin_errors
from unveil.worker.runtime import Runtime

log = logging.getLogger(__name__)

T = TypeVar("T")


def handle_request(runtime: Runtime, message_id: str) -> None:
    """Reply to the request, unless it expired or another process took it."""
    client, message_codec = _redis(runtime.settings.redis_url, os.getpid()), EncryptedMessageCodec(runtime.keyring)
    payload = broker.pop_request(client, message_id)
    if payload is None:
        log.info("request %s has expired", message_id)
        return
    try:
        request = message_codec.decode(payload, message_id, "request", _HANDLERS)
    except UndecodableMessage:
        log.exception("request %s cannot be decoded", message_id)
        reply: Any = _internal_error(
            "the worker cannot read this request; API and workers differ in version or keyring"
        )
    else:
        reply = _process_and_log(runtime, request)
    failpoints.failpoint("encrypted-before-answer")
    broker.push_reply(client, message_id, message_codec.encode(reply, message_id, "reply"))


def _process_and_log(runtime: Runtime, request: Request) -> Any:
    started_at = time.monotonic()
    with bind_log_context(request_id=request.request_id, account_id=request.account_id):
        reply = process_request(runtime, request)
        outcome = reply.rejections[0].code if isinstance(reply, RequestRejected) else "done"
        fields = {"seconds": round(time.monotonic() - started_at, 3)}
        log.info("%s: %s", type(request).__name__, outcome, extra=fields)
    return reply


def process_request(runtime: Runtime, request: Request) -> Any:
    """The reply of the request's type, or RequestRejected: also after an error, so that the caller does not wait."""
    try:
        return _HANDLERS[type(request)](runtime, request)
    except RequestRejected as rejected:
        return rejected
    except StorageError as error:
        log.exception("storage error")
        return RequestRejected([Rejection(error.code, "", str(error))])
    except Exception:
        log.exception("request failed")
        return _internal_error("the worker failed on this request; see its log")


def _internal_error(detail: str) -> RequestRejected:
    return RequestRejected([Rejection("internal", "", detail)])


# --- operations ---


def _transform(runtime: Runtime, request: TransformRequest) -> TransformReply:
    scheme = make_scheme(request.scheme, request.settings)
    if request.operation is Operation.ENCRYPT:
        return _encrypt(runtime, request, scheme)
    return _decrypt(runtime, request, scheme)


def _encrypt(runtime: Runtime, request: TransformRequest, scheme: Scheme[Any, Any]) -> TransformReply:
    decoded = _decode_all(runtime, request.images, _decode_lossy)
    padded = [pad(image.pixels[None], scheme.size_multiple)[0] for image in decoded]
    rows = _use_keys(runtime, request, request.key_ids, request.images, padded)
    encrypted = _apply_keys(runtime, scheme, rows, request.key_ids, padded, scheme.encrypt_to_images)
    images = []
    for source, image, key_id in zip(decoded, encrypted, request.key_ids, strict=True):
        width, height = source.original_size
        original, tag = f"{width}x{height}", None
        notes = [*source.notes]
        if (height, width) != image.shape[:2]:
            notes.append(f"padded to {image.shape[1]}x{image.shape[0]} by edge replication")
        bits = effective_bits(scheme, *image.shape[:2]) if scheme.invertible else None
        if bits is not None and bits >= ciphertext.MIN_TAGGED_KEY_BITS:
            secret = key_loading.decrypt_secret(runtime, rows[key_id])
            tag = ciphertext.compute_tag(secret, scheme.name, image, original, source.layers)
        png = to_png(image, ciphertext.to_text([ciphertext.Layer(original, key_id, tag), *source.layers]))
        images.append(TransformedImage(png, key_id, image.shape[1], image.shape[0], width, height, notes))
    return TransformReply(images)


def _decrypt(runtime: Runtime, request: TransformRequest, scheme: Scheme[Any, Any]) -> TransformReply:
    decoded = _decode_all(runtime, request.images, partial(_decode_lossless, scheme))
    pixels, notes = [image.pixels for image in decoded], list[list[str]]()

    def check(rows: Mapping[str, Key]) -> None:
        checks = (
            partial(_check_tag, runtime, request, scheme, image, rows[key_id])
            for image, key_id in zip(decoded, request.key_ids, strict=True)
        )
        notes.extend(_check_each(request.images, checks))

    rows = _use_keys(runtime, request, request.key_ids, request.images, pixels, check)
    decrypted = _apply_keys(runtime, scheme, rows, request.key_ids, pixels, scheme.decrypt)
    images = []
    for source, padded, key_id, note in zip(decoded, decrypted, request.key_ids, notes, strict=True):
        width, height = source.original_size
        image = np.ascontiguousarray(padded[:height, :width])
        cropped = [f"cropped to {width}x{height}"] if image.shape != padded.shape else []
        png = to_png(image, ciphertext.to_text(source.layers[1:]))
        images.append(TransformedImage(png, key_id, width, height, width, height, [*cropped, *note]))
    return TransformReply(images)


def _check_tag(
    runtime: Runtime, request: TransformRequest, scheme: Scheme[Any, Any], image: DecodedImage, key: Key
) -> list[str]:
    """Notes on what the tag says. Raises ImageError for a changed ciphertext or a wrong key."""
    secret = key_loading.decrypt_secret(runtime, key)
    unchanged = ciphertext.is_unchanged(secret, scheme.name, image.pixels, image.layers)
    if unchanged is None:
        return ["without a tag: changes of the ciphertext and a wrong key would go unnoticed"]
    if unchanged:
        return []
    if request.allow_changed:
        return ["the ciphertext was changed, or the key is not its own: the image is not the original"]
    made_with = image.layers[0].key
    reason = f"was encrypted with {made_with}, not with {key.id}" if made_with != key.id else "was changed"
    detail = f"{reason}; send the file that encryption gave and its key, or allow_changed=true"
    raise decoding.ImageError("ciphertext_changed", detail)


def _preview_attack(runtime: Runtime, request: PreviewRequest) -> PreviewReply:
    scheme = make_scheme(request.scheme, request.settings)
    (decoded,) = _decode_all(runtime, [request.image], _decode_lossy)
    image = pad(decoded.pixels[None], scheme.size_multiple)[0]
    row = _use_keys(runtime, request, [request.key_id], [request.image], [image])[request.key_id]
    key = key_loading.load_key(runtime, scheme, row, *image.shape[:2])
    secret = key_loading.decrypt_secret(runtime, row) if scheme.key_per_image else None
    attack = make_attack(request.attack, request.attack_settings)
    with plugin_errors(scheme):
        return playground.preview_attack(scheme, attack, image, key, secret)


def _thumbnails(runtime: Runtime, request: ThumbnailsRequest) -> PngReply:
    return PngReply(dataset_loading.thumbnail_strip(runtime, request.account_id, request.dataset))


def _build_dataset(runtime: Runtime, request: ArchiveRequest) -> ArchiveReply:
    return dataset_archive.build_from_upload(request, runtime.blobs, runtime.settings)


_HANDLERS: Mapping[type, Callable[[Runtime, Any], Any]] = {
    TransformRequest: _transform,
    PreviewRequest: _preview_attack,
    BundledPhotoRequest: lambda _, request: PngReply(playground.bundled_photo(request.name)),
    SampleMosaicRequest: lambda _, request: PngReply(playground.sample_mosaic(request.height, request.width)),
    ThumbnailsRequest: _thumbnails,
    ArchiveRequest: _build_dataset,
}


# --- images ---


@dataclass(frozen=True)
class DecodedImage:
    pixels: Images
    notes: list[str]
    original_size: tuple[int, int]  # (width, height)
    layers: list[ciphertext.Layer]  # encryptions of the service that the file names


def _decode_all(
    runtime: Runtime,
    files: Sequence[ImageFile],
    decode: Callable[[ImageFile, decoding.InspectedImage], DecodedImage],
) -> list[DecodedImage]:
    """Every image, or every rejection at once. Checks all headers first, so that a too large request is not decoded."""
    settings = runtime.settings
    inspected = _check_each(
        files, (partial(decoding.inspect, file.data, max_pixels=settings.max_pixels) for file in files)
    )
    total = sum(image.pixels for image in inspected)
    if total > settings.max_request_pixels:
        detail = (
            f"the images have {total} pixels together; a request may have {settings.max_request_pixels}: send fewer"
        )
        raise RequestRejected([Rejection("image_too_large", "/images", detail)])
    return _check_each(files, (partial(decode, *pair) for pair in zip(files, inspected, strict=True)))


def _check_each(files: Sequence[ImageFile], steps: Iterable[Callable[[], T]]) -> list[T]:
    """The result of each file's step. Raises RequestRejected with every file's ImageError."""
    results, rejections = [], []
    for index, (file, step) in enumerate(zip(files, steps, strict=True)):
        try:
            results.append(step())
        except decoding.ImageError as error:
            rejections.append(Rejection(error.code, f"/images/{index}", f"{file.filename} {error.detail}"))
    if rejections:
        raise RequestRejected(rejections)
    return results


def _decode_lossy(_: ImageFile, inspected: decoding.InspectedImage) -> DecodedImage:
    decoded = decoding.decode(inspected)
    height, width = decoded.pixels.shape[:2]
    layers = ciphertext.read_layers(decoded.text)
    kept = not decoded.notes and ciphertext.are_ours(layers)  # a converted ciphertext is none
    return DecodedImage(decoded.pixels, decoded.notes, (width, height), layers if kept else [])


def _decode_lossless(scheme: Scheme[Any, Any], file: ImageFile, inspected: decoding.InspectedImage) -> DecodedImage:
    """The original size comes from the request, else from the PNG's text chunk, else it is the size of the image.

    A cropped ciphertext may be smaller than its text chunk says; the check of its tag reports the change.
    """
    pixels, layers = ciphertext.decode_ciphertext(inspected)
    height, width = pixels.shape[:2]
    if padded_size(height, width, scheme.size_multiple) != (height, width):
        detail = (
            f"is {width}x{height}; {scheme.name} encrypts to sides that are multiples of {scheme.size_multiple}: "
            "send the unmodified output of encryption"
        )
        raise decoding.ImageError("size_mismatch", detail)
    embedded_size = layers[0].original_size if layers else None
    if embedded_size is not None and (embedded_size[0] > width or embedded_size[1] > height):
        embedded_size = None
    original_size = file.original_size or embedded_size or (width, height)
    if original_size[0] > width or original_size[1] > height:
        detail = f"is {width}x{height} and cannot contain an original of {original_size[0]}x{original_size[1]}"
        raise decoding.ImageError("size_mismatch", detail)
    return DecodedImage(pixels, [], original_size, layers)


# --- keys ---


def _apply_keys(
    runtime: Runtime,
    scheme: Scheme[Any, Any],
    rows: Mapping[str, Key],
    key_ids: Sequence[str],
    images: Sequence[Images],
    apply: Callable[[Images, Any], Images],
) -> list[Images]:
    """Encrypt or decrypt each image with its key. Images with one key and size share a batch and the derived key."""
    batches: dict[tuple[str, int, int], list[int]] = {}
    for index, (image, key_id) in enumerate(zip(images, key_ids, strict=True)):
        batches.setdefault((key_id, *image.shape[:2]), []).append(index)
    results: dict[int, Images] = {}
    for (key_id, height, width), members in batches.items():
        try:
            with plugin_errors(scheme, passed=(FileNotFoundError, StorageError, DecryptionError)):
                key = key_loading.load_key(runtime, scheme, rows[key_id], height, width)
        except FileNotFoundError:  # destroyed after its row was read
            raise keys.key_destroyed(key_id) from None
        batch = np.stack([images[index] for index in members])
        with plugin_errors(scheme):
            transformed = apply(batch, key)
            if getattr(transformed, "dtype", None) != np.uint8 or transformed.shape != batch.shape:
                got = f"{getattr(transformed, 'dtype', type(transformed))} {list(getattr(transformed, 'shape', ()))}"
                raise ValueError(f"uint8 {list(batch.shape)} was expected, and it returned {got}")
        results.update(zip(members, transformed, strict=True))
    return [results[index] for index in range(len(images))]


def _use_keys(
    runtime: Runtime,
    request: TransformRequest | PreviewRequest,
    key_ids: Sequence[str],
    files: Sequence[ImageFile],
    images: Sequence[Images],
    check: Callable[[Mapping[str, Key]], None] = lambda _: None,
) -> dict[str, Key]:
    """The rows of the keys by id, new ones inserted, uses counted and committed.

    check: rejects keys that do not belong to the images, before their use is committed. Raises RequestRejected.
    """
    owner, new_secrets = request.account_id, {}
    if isinstance(request, TransformRequest) and request.draw_keys:
        new_secrets = {id: runtime.keyring.seal(new_secret(), purpose="key", owner=owner, id=id) for id in set(key_ids)}
    new_values = {
        "scheme": request.scheme, "params": request.settings, "status": Status.SUCCEEDED.value, "progress": 1.0
    }  # fmt: skip
    with runtime.sessions.begin() as session:
        rows = keys.use_keys(session, owner, key_ids, new_secrets, new_values)
        sized = zip(key_ids, images, strict=True)
        _check_each(files, (partial(_check_key_size, rows[id], image) for id, image in sized))
        check(rows)
    return rows


def _check_key_size(key: Key, image: Images) -> None:
    """Raises ImageError for an image without the size of a key with explicit maps."""
    height, width = image.shape[:2]
    if key.width is not None and (key.width, key.height) != (width, height):
        detail = (
            f"is {width}x{height}, and {key.id} holds explicit maps for {key.width}x{key.height} "
            "(width x height): resize the image or use a key without explicit maps"
        )
        raise decoding.ImageError("size_mismatch", detail)


@cache
def _redis(url: str, pid: int) -> redis.Redis:  # noqa: ARG001 - part of the cache key: a forked child needs its own
    return redis.Redis.from_url(url)
