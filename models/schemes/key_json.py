"""Explicit key material as JSON: maps as base64 bytes, sizes and permutations, validated on input."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from unveil.models.core.settings_schema import ParameterError


def check_fields(material: Mapping[str, Any], known: Collection[str]) -> None:
    """Raises ParameterError for fields that are not `known`."""
    errors = [(f"/{name}", "unknown field") for name in sorted(set(material) - set(known))]
    if errors:
        raise ParameterError(errors)


def encode_map(values: npt.NDArray[Any]) -> str:
    """Encode values in 0..255 as base64, one byte each, in C order."""
    return base64.b64encode(values.astype(np.uint8).tobytes()).decode()


def decode_map(material: Mapping[str, Any], name: str, count: int, highest: int) -> npt.NDArray[np.uint8]:
    """Decode the `count` bytes of field `name`, each in 0..highest -> uint8 [count]. Raises ParameterError."""
    try:
        values = np.frombuffer(base64.b64decode(material.get(name, ""), validate=True), np.uint8)
    except (binascii.Error, TypeError, ValueError):
        raise ParameterError([(f"/{name}", "must be base64")]) from None
    if len(values) != count:
        raise ParameterError([(f"/{name}", f"must contain {count} bytes for this width and height; got {len(values)}")])
    if values.max() > highest:
        raise ParameterError([(f"/{name}", f"every byte must lie in 0..{highest}; got {values.max()}")])
    return values


def parse_size(material: Mapping[str, Any], other_fields: set[str], multiple: int = 1) -> tuple[int, int]:
    """(height, width) of the images that the maps fit. Raises ParameterError, also for fields beyond `other_fields`."""
    check_fields(material, {"width", "height", *other_fields})
    errors, sides = list[tuple[str, str]](), list[int]()
    for name in ("height", "width"):
        side = material.get(name)
        if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= 65536 or side % multiple:
            unit = f", a multiple of {multiple}" if multiple > 1 else ""
            errors.append((f"/{name}", f"must be an integer number of pixels in 1..65536{unit}"))
        else:
            sides.append(side)
    if errors:
        raise ParameterError(errors)
    return sides[0], sides[1]


def parse_integers(material: Mapping[str, Any], name: str, count: int, highest: int) -> npt.NDArray[np.int64]:
    """`count` integers in 0..highest from a JSON list -> int64 [count]. Raises ParameterError."""
    values = material.get(name)
    is_valid = isinstance(values, list) and all(type(value) is int and 0 <= value <= highest for value in values)
    if not is_valid or len(values or ()) != count:
        raise ParameterError([(f"/{name}", f"must contain {count} integers in 0..{highest}")])
    return np.array(values, np.int64)


def parse_permutation(material: Mapping[str, Any], name: str, count: int) -> npt.NDArray[np.int64]:
    """A permutation of range(count) from a JSON list -> int64 [count]. Raises ParameterError."""
    values = parse_integers(material, name, count, count - 1)
    if (np.bincount(values, minlength=count) != 1).any():
        raise ParameterError([(f"/{name}", f"must contain each of 0..{count - 1} once")])
    return values
