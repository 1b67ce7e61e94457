"""Frozen dataclasses that are read from and written to JSON by field name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime
from functools import cache
from types import MappingProxyType
from typing import Any, ClassVar, Self, cast, get_args, get_origin, get_type_hints

_Decoder = Callable[[Any], Any]

_JSON_SCALARS = frozenset({type(None), bool, int, str})


class JsonRecord:
    """Base of the dataclasses that cross a boundary as JSON: stored results, answers of the API.

    `from_json` keeps the fields that only another version of Unveil knows, and `to_json` writes them back.
    """

    # pydantic describes fields in the API's schemas by the docstrings below them.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"use_attribute_docstrings": True}

    unknown_fields: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises TypeError if a field without a default is missing."""
        decoders, known, unknown = cls._decoders(), {}, {}
        for name, value in data.items():
            if name not in decoders:
                unknown[name] = value
            else:
                decode = decoders[name]
                known[name] = value if decode is None or value is None else decode(value)
        record = cls(**known)
        if unknown:
            object.__setattr__(record, "unknown_fields", unknown)
        return record

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Lets pydantic models hold records: it writes them with `to_json`, unknown fields included."""
        return {**handler(source), "serialization": {"type": "function-plain", "function": cls.to_json}}

    def to_json(self) -> dict[str, Any]:
        """JSON values. JSON has no infinity: numbers that are not finite become null."""
        known = {name: encode(getattr(self, name)) for name in self._decoders()}
        return {**known, **self.unknown_fields}

    @classmethod
    @cache
    def _decoders(cls) -> dict[str, _Decoder | None]:
        """By field; None if the field holds the JSON value itself."""
        hints, record_type = get_type_hints(cls), cast("type[Any]", cls)
        return {field.name: _decoder(hints[field.name]) for field in fields(record_type)}


def _decoder(hint: Any) -> _Decoder | None:
    if isinstance(hint, type) and issubclass(hint, JsonRecord):
        return hint.from_json
    if hint is datetime:
        return datetime.fromisoformat
    if hasattr(hint, "_make"):  # a NamedTuple: without names, for long lists
        return hint._make
    origin, inner = get_origin(hint), next(filter(None, map(_decoder, get_args(hint))), None)
    if inner is None:
        return tuple if origin is tuple else None
    if origin is Mapping:
        return lambda items: {name: inner(item) for name, item in items.items()}
    return (lambda items: origin(map(inner, items))) if origin in (list, tuple) else inner  # optional


def encode(value: Any) -> Any:
    """JSON values of records and containers; numbers that are not finite become null."""
    if type(value) in _JSON_SCALARS:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, JsonRecord):
        return value.to_json()
    if isinstance(value, Mapping):
        return {name: encode(inner) for name, inner in value.items()}
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return [encode(inner) for inner in value] if isinstance(value, list | tuple) else value
