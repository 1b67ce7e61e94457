"""One result in the form a caller asks for: JSON with base64, a zip with a manifest, or one bare PNG."""

from __future__ import annotations

import io
import json
import re
import zipfile
from typing import Any, Literal

import pybase64
from starlette.responses import Response

from unveil.app.encryption.service import TransformResult
from unveil.app.errors.problem import Problem

MediaType = Literal["application/json", "application/zip", "image/png"]

_JSON: MediaType = "application/json"
_ZIP: MediaType = "application/zip"
_PNG: MediaType = "image/png"
_MEDIA_TYPES_BY_RANGE: dict[
    str, tuple[MediaType, ...]
] = {  # what each entry of an Accept header takes, the first rather than the others
    _JSON: (_JSON,),
    _ZIP: (_ZIP,),
    _PNG: (_PNG,),
    "application/*": (_JSON, _ZIP),
    "image/*": (_PNG,),
    "*/*": (_JSON, _ZIP, _PNG),
}
_UNSAFE_FILENAME_CHARACTERS = re.compile(r"[^A-Za-z0-9._-]+")
_ZIP_TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # the same request gives the same zip


class NotAcceptable(Problem):
    status, code, title = 406, "not_acceptable", "The answer cannot take that form"


def negotiate_media_type(accept: str, images: int) -> MediaType:
    """The form that an Accept header prefers of those that can hold so many images; JSON where it names none of ours.

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
    """Copies every byte: for large results in a thread."""
    if media_type == _PNG:
        return Response(result.pngs[0], media_type=media_type, headers={"Key-Id": result.images[0]["key_id"]})
    metadata: dict[str, Any] = {"scheme": result.scheme, "params": result.params}
    if media_type == _ZIP:
        return _encode_zip(result, metadata)
    return Response(_encode_json(result, metadata), media_type=media_type)


def _encode_json(result: TransformResult, metadata: dict[str, Any]) -> bytes:
    """`head` with the images; base64 goes in as it is, for JSON's encoder would look at every letter of it.

    By pybase64: the standard one lets no other thread run for milliseconds, so that every request waits."""
    parts = [_compact_json(metadata)[:-1], b',"images":[']
    for image, png in zip(result.images, result.pngs, strict=True):
        image_json = _compact_json({**image, "media_type": "image/png"})[:-1]
        parts += [image_json, b',"data":"', pybase64.b64encode(png), b'"},']
    parts[-1] = b'"}]}'
    return b"".join(parts)


def _compact_json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _encode_zip(result: TransformResult, metadata: dict[str, Any]) -> Response:
    names = [f"{image['index']:03d}-{_safe_stem(image['filename'])}.png" for image in result.images]
    entries = [
        {**image, "media_type": "image/png", "file": name} for image, name in zip(result.images, names, strict=True)
    ]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, png in zip(names, result.pngs, strict=True):
            archive.writestr(zipfile.ZipInfo(name, _ZIP_TIMESTAMP), png)
        manifest = json.dumps({**metadata, "images": entries}, indent=1)
        archive.writestr(zipfile.ZipInfo("manifest.json", _ZIP_TIMESTAMP), manifest)
    disposition = {"Content-Disposition": 'attachment; filename="images.zip"'}
    return Response(buffer.getvalue(), media_type="application/zip", headers=disposition)


def _safe_stem(filename: str) -> str:
    return _UNSAFE_FILENAME_CHARACTERS.sub("_", filename.rpartition(".")[0] or filename).strip(".")[:80] or "image"
