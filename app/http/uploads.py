"""Multipart forms with images, read within limits; every fault has a problem that names the field.

A route that uses this module declares no form parameters, because several values of a field and several faults of a
form need their own messages. It describes its body with `form_schema`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser

from unveil.app.errors.problem import BadRequest, Invalid, TooManyFiles, UnsupportedImage, UnsupportedMedia

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")
_MAX_FIELD_BYTES = 64 * 1024
# What clients send that know no type; the last is the default of several HTTP libraries for any body.
_GENERIC_MEDIA_TYPES = frozenset(
    {"", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded"}
)
# Uploads are read into memory anyway. Above this size (1 MiB by default) they pass through an unencrypted temporary
# file, with a thread switch for every 64 kB.
MultiPartParser.spool_max_size = 64 * 2**20


@dataclass(frozen=True)
class UploadedFile:
    name: str  # from the client, shortened and without control characters
    data: bytes


@dataclass(frozen=True)
class MultipartForm:
    files: list[UploadedFile]
    fields: dict[str, list[str]]

    def single(self, name: str) -> str | None:
        """The value of a field that may appear once. Raises Invalid."""
        values = self.fields.get(name, [])
        if len(values) > 1:
            raise Invalid(f"{name} must be sent once", [(f"/{name}", f"must be sent once; got {len(values)} values")])
        return values[0] if values else None


@asynccontextmanager
async def read_form(
    request: Request, file_field: str, fields: frozenset[str], max_files: int
) -> AsyncIterator[MultipartForm]:
    """Closes the uploaded files at the end.

    Raises UnsupportedMedia, UnsupportedImage, BadRequest, TooLarge, Invalid.
    """
    try:
        yield await _parse_form(request, file_field, fields, max_files)
    finally:
        await request.close()


async def _parse_form(request: Request, file_field: str, fields: frozenset[str], max_files: int) -> MultipartForm:
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise UnsupportedMedia(f"the body must be multipart/form-data with files in the field {file_field!r}")
    limits = {"max_files": max_files, "max_fields": 4 * max_files, "max_part_size": _MAX_FIELD_BYTES}
    try:
        form = await request.form(**limits)
    except HTTPException as error:
        if error.status_code == 413:  # raised by the body limit
            raise
        text = str(error.detail)
        if text.startswith("Too many"):
            raise TooManyFiles(
                f"a request may have at most {max_files} files; send the rest in another one",
                [(f"/{file_field}", text)],
            ) from None
        raise BadRequest(f"the form cannot be parsed: {text}") from None
    uploads: list[UploadedFile] = []
    wrong_types: list[tuple[str, str]] = []
    values_by_field: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name != file_field:
                raise _field_error(name, f"must not be a file; send files in the field {file_field!r}")
            filename = _safe_filename(value.filename, len(uploads))
            media_type = (value.content_type or "").partition(";")[0].strip().lower()
            if media_type not in _GENERIC_MEDIA_TYPES and not media_type.startswith("image/"):
                detail = f"{filename} is declared as {media_type[:60]!r}; declare an image type, or none"
                wrong_types.append((f"/{name}/{len(uploads)}", detail))
            uploads.append(UploadedFile(filename, await value.read()))
            await value.seek(0)
        elif name not in fields:
            hint = "send a file, with a filename" if name == file_field else f"known: {', '.join(sorted(fields))}"
            raise _field_error(name, f"is not a field of this form; {hint}")
        elif value.strip():  # browsers and generated clients send blank fields for absent ones
            values_by_field.setdefault(name, []).append(value)
    if not uploads:
        raise Invalid(f"send at least one file in the field {file_field!r}", [(f"/{file_field}", "is missing")])
    if wrong_types:
        raise UnsupportedImage(wrong_types[0][1], wrong_types)
    return MultipartForm(uploads, values_by_field)


def reject_unknown_fields(form: FormData, known_fields: Iterable[str]) -> None:
    """Checks a form that FastAPI has parsed: no unknown field, and no field twice. Raises Invalid."""
    counts = Counter(name for name, _ in form.multi_items())
    for name, count in counts.items():
        if name not in known_fields:
            raise _field_error(name, f"is not a field of this form; known: {', '.join(sorted(known_fields))}")
        if count > 1:
            raise _field_error(name, f"must be sent once; got {count} values")


def form_schema(file_field: str, fields: Mapping[str, dict[str, Any]], example: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI request body of a route that calls `read_form`."""
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
    schema = {
        "type": "object",
        "properties": {file_field: files, **fields},
        "required": [file_field],
        "additionalProperties": False,
    }
    # Several types, and none of them binding: the content of a file decides which image format it has.
    encoding = {file_field: {"contentType": "image/png, image/jpeg, application/octet-stream"}}
    content = {"schema": schema, "example": example, "encoding": encoding}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": content}}}


def _field_error(name: str, detail: str) -> Invalid:
    safe_name = _CONTROL_CHARACTERS.sub("?", name)[:60]
    return Invalid(f"{safe_name}: {detail}", [(f"/{safe_name}", detail)])


def _safe_filename(filename: str | None, index: int) -> str:
    basename = (filename or "").replace("\\", "/").rpartition("/")[2]
    return _CONTROL_CHARACTERS.sub("?", basename)[:120] or f"image-{index}"
