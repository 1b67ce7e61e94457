"""Messages between the API and the encryption workers: a request type for each operation, and its reply.

A worker replies with the reply type of the request, or with `RequestRejected`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import PlainSerializer, PlainValidator, SerializationInfo, ValidationInfo


def _store(data: bytes, info: SerializationInfo[list[bytes]]) -> int:
    assert info.context is not None
    info.context.append(data)
    return len(info.context) - 1


def _load(index: Any, info: ValidationInfo[list[bytes]]) -> bytes:
    assert info.context is not None
    return bytes(info.context[index])


# Bytes that travel beside the JSON of a message, which holds their index: base64 would copy every image twice.
Attachment = Annotated[bytes, PlainSerializer(_store), PlainValidator(_load)]


@dataclass(frozen=True)
class Rejection:
    code: str  # of the problem that the caller of the API receives
    pointer: str  # JSON pointer into the API request; empty for the request as a whole
    detail: str


@dataclass(eq=False)
class RequestRejected(Exception):
    """The worker does not carry out the request. The code of the first rejection names the problem."""

    rejections: list[Rejection]


@dataclass(frozen=True, kw_only=True)
class Request:
    account_id: str
    request_id: str = ""  # of the HTTP request, for the worker's log


# --- encryption and decryption ----------------------------------------------------------------------------------


class Operation(StrEnum):
    ENCRYPT = "encrypt"
    DECRYPT = "decrypt"


@dataclass(frozen=True)
class ImageFile:
    filename: str
    data: Attachment
    original_size: tuple[int, int] | None = None  # (width, height) before padding, where the caller names it


@dataclass(frozen=True, kw_only=True)
class TransformRequest(Request):
    operation: Operation
    scheme: str
    settings: dict[str, Any]
    key_ids: list[str]  # one per image
    draw_keys: bool  # the worker draws keys under these ids; else they exist
    images: list[ImageFile]
    allow_changed: bool = False  # decrypt a ciphertext whose tag does not match


@dataclass(frozen=True)
class TransformedImage:
    png: Attachment
    key_id: str
    width: int
    height: int
    original_width: int
    original_height: int
    notes: list[str]


@dataclass(frozen=True)
class TransformReply:
    images: list[TransformedImage]


# --- previews on the dashboard ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PreviewRequest(Request):
    """Run one attack on an image protected with a stored key, and on the sample set under the same key."""

    scheme: str
    settings: dict[str, Any]
    key_id: str
    attack: str
    attack_settings: dict[str, Any]
    image: ImageFile


@dataclass(frozen=True)
class PreviewScores:
    ssim: float
    set_ssim: float  # mean over the image and the sample set
    identified: bool  # whether the reconstruction identifies the image among the sample set
    identified_of_set: int
    set: int
    above_chance: bool
    exact_key: bool | None  # null for an attack that recovers no key
    seconds: float


@dataclass(frozen=True)
class PreviewReply:
    scores: PreviewScores | None
    failure: str | None  # why the attack found nothing; then there are no scores and no images
    images: list[Attachment]  # PNGs: the reconstructed image, and a mosaic of the reconstructed sample set


@dataclass(frozen=True, kw_only=True)
class BundledPhotoRequest(Request):
    name: str


@dataclass(frozen=True, kw_only=True)
class SampleMosaicRequest(Request):
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class ThumbnailsRequest(Request):
    dataset: str


@dataclass(frozen=True)
class PngReply:
    png: Attachment


# --- dataset uploads --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ArchiveRequest(Request):
    """Build a dataset from uploaded archives, which wait in the blob store."""

    name: str
    kind: Literal["plain", "protected", "reconstructed"]
    size: int  # side in pixels to which plain images are resized
    seed: int
    archive_blob: str
    originals_blob: str | None
    dataset_blob: str  # where the worker writes the dataset


@dataclass(frozen=True)
class ArchiveReply:
    """Columns of the dataset's row."""

    train_count: int
    test_count: int
    width: int
    height: int
    classes: list[str]
    has_originals: bool
    pixel_bytes: int
    note: str
    labelled: bool
