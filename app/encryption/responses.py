"""One result in the form a caller asks for: JSON with base64, a zip with a manifest, or one bare PNG."""

from __future__ import annotations

import io
import json
import re
import zipfile
from typing import Any, Literal

import pybase64
from starlette.responses import Response

from unveil.app.encryption.service import Result
from unveil.app.errors.problem import Problem

Form = Literal["application/json", "application/zip", "image/png"]

_JSON: Form = "application/json"
_ZIP: Form = "application/zip"
_PNG: Form = "image/png"
_RANGES: dict[str, tuple[Form, ...]] = {  # what each entry of an Accept header takes, the first rather than the others
    _JSON: (_JSON,),
    _ZIP: (_ZIP,),
    _PNG: (_PNG,),
    "application/*": (_JSON, _ZIP),
    "image/*": (_PNG,),
    "*/*": (_JSON, _ZIP, _PNG),
}
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same request gives the same zip


class NotAcceptable(Problem):
    status, code, title = 406, "not_acceptable", "The answer cannot take that form"


def wanted(accept: str, images: int) -> Form:
    """The form that an Accept header prefers of those that can hold so many images; JSON where it names none of ours.

    Raises NotAcceptable.
    """
    weights: dict[str, float] = {}
    for entry in accept.lower().split(","):
        media, *parameters = (part.strip() for part in entry.split(";"))
        if media in _RANGES:
            weights[media] = _weight(parameters)
    for media in sorted(weights, key=weights.__getitem__, reverse=True):
        for form in _RANGES[media] if weights[media] > 0 else ():
            by_another_entry = form != media and form in weights
            if not by_another_entry and (form != _PNG or images == 1):
                return form
    if not weights:
        return _JSON
    if images != 1 and weights.get(_PNG, weights.get("image/*", 0)) > 0:
        raise NotAcceptable(f"image/png holds one image and this request has {images}; accept application/zip or JSON")
    raise NotAcceptable("accept application/json, application/zip or, for one image, image/png")


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return min(1.0, max(0.0, float(parameter[2:])))
            except ValueError:
                return 0.0
    return 1.0


def render(result: Result, form: Form) -> Response:
    """Copies every byte: for large results in a thread."""
    if form == _PNG:
        return Response(result.pngs[0], media_type=form, headers={"Key-Id": result.images[0]["key_id"]})
    head: dict[str, Any] = {"scheme": result.scheme, "params": result.params}
    if form == _ZIP:
        return _zip(result, head)
    return Response(_json(result, head), media_type=form)


def _json(result: Result, head: dict[str, Any]) -> bytes:
    """`head` with the images; base64 goes in as it is, for JSON's encoder would look at every letter of it.

    By pybase64: the standard one lets no other thread run for milliseconds, so that every request waits."""
    parts = [_dumps(head)[:-1], b',"images":[']
    for image, png in zip(result.images, result.pngs, strict=True):
        about = _dumps({**image, "media_type": "image/png"})[:-1]
        parts += [about, b',"data":"', pybase64.b64encode(png), b'"},']
    parts[-1] = b'"}]}'
    return b"".join(parts)


def _dumps(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _zip(result: Result, head: dict[str, Any]) -> Response:
    names = [f"{image['index']:03d}-{_stem(image['filename'])}.png" for image in result.images]
    entries = [
        {**image, "media_type": "image/png", "file": name} for image, name in zip(result.images, names, strict=True)
    ]
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_STORED) as archive:
        for name, png in zip(names, result.pngs, strict=True):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), png)
        manifest = json.dumps({**head, "images": entries}, indent=1)
        archive.writestr(zipfile.ZipInfo("manifest.json", _EPOCH), manifest)
    disposition = {"Content-Disposition": 'attachment; filename="images.zip"'}
    return Response(held.getvalue(), media_type="application/zip", headers=disposition)


def _stem(filename: str) -> str:
    return _UNSAFE.sub("_", filename.rpartition(".")[0] or filename).strip(".")[:80] or "image"
