"""What an encrypted PNG says of itself in text chunks: its key, its size before padding, and a tag that shows changes.

The tag is a MAC under a key derived from the image key. If the plain image was itself encrypted by the service, its
layer is kept behind the outer one, and decryption writes it back.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from unveil.models.core.images import Images
from unveil.models.data.decoding import ImageError, InspectedImage, decode_exact

ORIGINAL_SIZE_KEY = "unveil:original"  # "97x101", width x height
KEY_ID_KEY = "unveil:key"
TAG_KEY = "unveil:tag"
INNER_KEY = "unveil:inner"  # JSON list of the layers below, outermost first

# An attacker who holds a tag can test guesses of the key without an image, so short keys get none.
MIN_TAGGED_KEY_BITS = 80
_MAX_LAYERS = 8
_PNG_8_BIT_RGB = b"\x08\x02"
_SIZE_PATTERN = re.compile(r"([1-9][0-9]{0,9})x([1-9][0-9]{0,9})")
_TAG_PATTERN = re.compile(r"[0-9a-f]{64}")
_KEY_ID_PATTERN = re.compile(r"key_[0-9a-f]{32}")


@dataclass(frozen=True)
class Layer:
    """One encryption of an image."""

    original: str | None  # size before padding
    key: str | None = None
    tag: str | None = None

    @property
    def original_size(self) -> tuple[int, int] | None:
        match = _SIZE_PATTERN.fullmatch(self.original or "")
        return (int(match[1]), int(match[2])) if match else None


def decode_ciphertext(file: InspectedImage) -> tuple[Images, list[Layer]]:
    """The pixels of a PNG that encryption gave, and its layers, outermost first. Raises ImageError.

    An original size that does not fit is refused unless the file has a tag, which shows that the file was changed.
    """
    if file.format != "PNG":
        raise ImageError("not_exact", f"is a {file.format}; decryption needs the PNG that encryption gave, bit for bit")
    if file.data[24:26] != _PNG_8_BIT_RGB:
        raise ImageError(
            "not_exact", "is not an 8-bit RGB PNG; send the file that encryption gave, not a converted one"
        )
    decoded = decode_exact(file)
    height, width = decoded.pixels.shape[:2]
    layers = read_layers(decoded.text)
    if layers and layers[0].original is not None and layers[0].tag is None:
        original = layers[0].original_size
        if original is None or original[0] > width or original[1] > height:
            raise ImageError(
                "not_exact", f"says that its original size was {layers[0].original[:20]!r}, which it cannot hold"
            )
    return decoded.pixels, layers


def read_layers(text: Mapping[str, str]) -> list[Layer]:
    """The layers that the text chunks name. Ignores what the service did not write."""
    if not {ORIGINAL_SIZE_KEY, TAG_KEY} & text.keys():
        return []
    outer = Layer(text.get(ORIGINAL_SIZE_KEY), text.get(KEY_ID_KEY), text.get(TAG_KEY))
    try:
        inner = [Layer(**fields) for fields in json.loads(text.get(INNER_KEY, "[]"))]
    except (ValueError, TypeError, RecursionError):
        return [outer]
    if not all(isinstance(value, str | None) for layer in inner for value in vars(layer).values()):
        return [outer]
    return [outer, *inner]


def are_ours(layers: Sequence[Layer]) -> bool:
    """Whether these layers may be copied into another file: nothing but sizes, ids and tags."""
    return 0 < len(layers) < _MAX_LAYERS and all(
        layer.original_size is not None
        and (layer.key is None or _KEY_ID_PATTERN.fullmatch(layer.key))
        and (layer.tag is None or _TAG_PATTERN.fullmatch(layer.tag))
        for layer in layers
    )


def to_text(layers: Sequence[Layer]) -> dict[str, str]:
    """The text chunks of these layers; the inverse of `read_layers`."""
    if not layers:
        return {}
    outer, *inner = layers
    chunks = {ORIGINAL_SIZE_KEY: outer.original, KEY_ID_KEY: outer.key, TAG_KEY: outer.tag}
    chunks[INNER_KEY] = json.dumps([asdict(layer) for layer in inner]) if inner else None
    return {name: value for name, value in chunks.items() if value is not None}


def compute_tag(secret: bytes, scheme: str, image: Images, original: str | None, inner: Sequence[Layer]) -> str:
    """The MAC of a ciphertext uint8 [H, W, 3]: of its pixels, its sizes and the layers below."""
    key = HKDF(SHA256(), length=32, salt=None, info=b"unveil ciphertext tag v1").derive(secret)
    context = [scheme, list(image.shape), original, [asdict(layer) for layer in inner]]
    message = json.dumps(context, sort_keys=True).encode()
    mac = hmac.new(key, len(message).to_bytes(8) + message, "sha256")
    mac.update(image.tobytes())
    return mac.hexdigest()


def is_unchanged(secret: bytes, scheme: str, image: Images, layers: Sequence[Layer]) -> bool | None:
    """Whether the tag fits ciphertext and key; None without a tag."""
    if not layers or layers[0].tag is None:
        return None
    tag = compute_tag(secret, scheme, image, layers[0].original, layers[1:])
    return hmac.compare_digest(tag.encode(), layers[0].tag.encode())
