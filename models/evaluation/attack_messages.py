"""Messages between a cell and the process of a plug-in attack: JSON and arrays in binary streams, no pickle."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class Message:
    """kind: what the message is. An array that is None travels as null."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    arrays: Sequence[Array | None] = ()


def send(stream: BinaryIO, message: Message) -> None:
    """Write one message and flush."""
    arrays = [None if array is None else np.ascontiguousarray(array) for array in message.arrays]
    forms = [None if array is None else [array.dtype.str, list(array.shape)] for array in arrays]
    header = json.dumps([message.kind, message.fields, forms]).encode()
    stream.write(_LENGTH.pack(len(header)) + header)
    for array in arrays:
        if array is not None:
            stream.write(array.tobytes())
    stream.flush()


def receive(stream: BinaryIO) -> Message:
    """Read one message. Raises EOFError when the other side has ended."""
    kind, fields, forms = json.loads(_read(stream, _LENGTH.unpack(_read(stream, _LENGTH.size))[0]))
    return Message(kind, fields, [None if form is None else _read_array(stream, *form) for form in forms])


def _read_array(stream: BinaryIO, dtype: str, shape: list[int]) -> Array:
    kind = np.dtype(dtype)
    # A bytearray makes the array writable; torch warns about others.
    return np.frombuffer(_read(stream, math.prod(shape) * kind.itemsize), kind).reshape(shape)


def _read(stream: BinaryIO, count: int) -> bytearray:
    data = bytearray()
    while len(data) < count:
        part = stream.read(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data
