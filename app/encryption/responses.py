"""Media types of a result: JSON with base64, a zip with a manifest, or one PNG."""

from __future__ import annotations

import io
import json
import re
import zipfile
from typing import Any, Literal

import pybase64
from starlette.responses import Response

from unveil.app.encryption.service import TransformResult
from unveil.app.errors.problem import NotAcceptable

MediaType = Literal["application/json", "application/zip", "image/png"]

_JSON: MediaType = "application/json"
_ZIP: MediaType = "application/zip"
_PNG: MediaType = "image/png"
# What each media range of an Accept header matches, in order of preference.
_MEDIA_TYPES_BY_RANGE: dict[str, tuple[MediaType, ...]] = {
    _JSON: (_JSON,),
    _ZIP: (_ZIP,),
    _PNG: (_PNG,),
    "application/*": (_JSON, _ZIP),
    "image/*": (_PNG,),
    "*/*": (_JSON, _ZIP, _PNG),
}
_UNSAFE_FILENAME_CHARACTERS = re.compile(r"[^A-Za-z0-9._-]+")
_ZIP_TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # fixed, so that the same request yields the same zip


def negotiate_media_type(accept: str, images: int) -> MediaType:
    """The preferred media type of an Accept header that can hold `images` images; JSON if it names no supported one.

    Raises NotAcceptable.
    """
    weights: dict[str, float] = {}
    for entry in accept.lower().split(","):
        media_range, *parameters = (part.strip() for part in entry.split(";"))
        if media_range in _MEDIA_TYPES_BY_RANGE:
            weights[media_range] = _parse_quality(parameters)
    for media_range in sorted(weights, key=weights.__getitem__, reverse=True):
        for media_type in _MEDIA_TYPES_BY_RANGE[media_range] if weights[media_range] > 0 else ():
            by_another_entry = media_type != media_range and media_type in weights
            if not by_another_entry and (media_type != _PNG or images == 1):
                return media_type
    if not weights:
        return _JSON
    if images != 1 and weights.get(_PNG, weights.get("image/*", 0)) > 0:
        raise NotAcceptable(f"image/png holds one image and this request has {images}; accept application/zip or JSON")
    raise NotAcceptable("accept application/json, application/zip or, for one image, image/png")


def _parse_quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return min(1.0, max(0.0, float(parameter[2:])))
            except ValueError:
                return 0.0
    return 1.0


def render(result: TransformResult, media_type: MediaType) -> Response:
    """Copies every byte: run large results in a thread."""
    first = result.images[0]
    if media_type == _PNG:
        notes = "; ".join(first.notes).encode("ascii", "backslashreplace").decode()
        return Response(first.png, media_type=media_type, headers={"Key-Id": first.key_id, "Unveil-Notes": notes})
    metadata: dict[str, Any] = {"scheme": result.scheme.name, "params": vars(result.scheme.settings)}
    if media_type == _ZIP:
        return _encode_zip(result, metadata)
    return Response(_encode_json(result, metadata), media_type=media_type)


def _describe_images(result: TransformResult) -> list[dict[str, Any]]:
    """The fields of ImageOut except `data`."""
    return [
        {
            "index": index,
            "filename": filename,
            **{name: value for name, value in vars(image).items() if name != "png"},
            "media_type": "image/png",
        }
        for index, (filename, image) in enumerate(zip(result.filenames, result.images, strict=True))
    ]


def _encode_json(result: TransformResult, metadata: dict[str, Any]) -> bytes:
    """Joins the base64 by hand: json.dumps would scan every character of it.

    pybase64, because the standard library's encoder holds the GIL for milliseconds.
    """
    parts = [_compact_json(metadata)[:-1], b',"images":[']
    for description, image in zip(_describe_images(result), result.images, strict=True):
        parts += [_compact_json(description)[:-1], b',"data":"', pybase64.b64encode(image.png), b'"},']
    parts[-1] = b'"}]}'
    return b"".join(parts)


def _compact_json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _encode_zip(result: TransformResult, metadata: dict[str, Any]) -> Response:
    entries = _describe_images(result)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for entry, image in zip(entries, result.images, strict=True):
            entry["file"] = f"{entry['index']:03d}-{_safe_stem(entry['filename'])}.png"
            archive.writestr(zipfile.ZipInfo(entry["file"], _ZIP_TIMESTAMP), image.png)
        manifest = json.dumps({**metadata, "images": entries}, indent=1)
        archive.writestr(zipfile.ZipInfo("manifest.json", _ZIP_TIMESTAMP), manifest)
    disposition = {"Content-Disposition": 'attachment; filename="images.zip"'}
    return Response(buffer.getvalue(), media_type="application/zip", headers=disposition)


def _safe_stem(filename: str) -> str:
    return _UNSAFE_FILENAME_CHARACTERS.sub("_", filename.rpartition(".")[0] or filename).strip(".")[:80] or "image"
