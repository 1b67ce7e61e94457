"""Settings of schemes and attacks: frozen dataclasses whose fields carry descriptions and limits.

One declaration yields the validation of a request, the JSON Schema of the API and the defaults of a run.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

S = TypeVar("S")

# Which way a setting makes an attack stronger; a tuple lists values from weakest to strongest. None: not declared.
Strength = Literal["higher", "lower", "neutral"] | tuple[Any, ...] | None

_MAX_VALUE_CHARACTERS = 60  # that an error quotes: a request may hold a text or a number of megabytes
_JSON_NAMES: dict[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}


class ParameterError(ValueError):
    """Invalid settings. `errors` holds (pointer, detail) pairs; pointers are relative to the settings ("/epochs")."""

    def __init__(self, errors: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{pointer}: {detail}" if pointer else detail for pointer, detail in errors))
        self.errors = errors


def setting(
    default: Any, doc: str, *, minimum: float | None = None, maximum: float | None = None, stronger: Strength = None
) -> Any:
    """A field of a settings dataclass with its default, its description and its inclusive limits.

    stronger: of an attack's setting; without it, any value other than the profile's counts as weaker.
    """
    metadata = {"doc": doc, "minimum": minimum, "maximum": maximum, "stronger": stronger}
    return dataclasses.field(default=default, metadata=metadata)


def strengths(settings: type) -> dict[str, Strength]:
    """The declared direction of each setting."""
    return {field.name: field.metadata.get("stronger") for field in dataclasses.fields(settings)}


def parse(settings: type[S], values: Mapping[str, Any], extra_names: Collection[str] = ()) -> S:
    """Validate `values` and return an instance of `settings`; missing values take their defaults.

    extra_names: names that the caller handles itself, listed in the error for an unknown name. Raises ParameterError
    with one entry for each invalid value.
    """
    hints = _resolve_type_hints(settings)  # type: ignore[arg-type]
    fields = {field.name: field for field in dataclasses.fields(settings)}  # type: ignore[arg-type]
    errors: list[tuple[str, str]] = []
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name not in fields:
            known = ", ".join(sorted([*fields, *extra_names])) or "none"
            errors.append((f"/{name}", f"unknown parameter; known: {known}"))
            continue
        problem, checked[name] = _check(value, hints[name], fields[name].metadata)
        if problem:
            errors.append((f"/{name}", problem))
    if errors:
        raise ParameterError(errors)
    try:
        return settings(**checked)
    except ParameterError:
        raise
    except ValueError as error:  # a rule between fields, from __post_init__
        raise ParameterError([("", str(error))]) from error


def json_schema(settings: type) -> dict[str, Any]:
    """The JSON Schema of a settings dataclass: types, limits, defaults and descriptions."""
    hints = _resolve_type_hints(settings)
    properties: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        schema = _type_schema(hints[field.name])
        if "doc" in field.metadata:
            schema["description"] = field.metadata["doc"]
        schema |= {k: field.metadata[k] for k in ("minimum", "maximum") if field.metadata.get(k) is not None}
        if stronger := field.metadata.get("stronger"):
            schema["x-stronger"] = list(stronger) if isinstance(stronger, tuple) else stronger
        schema["default"] = field.default
        properties[field.name] = schema
    return {"type": "object", "properties": properties, "additionalProperties": False}


@cache  # evaluating the annotations takes 0.1 ms
def _resolve_type_hints(settings: type) -> dict[str, Any]:
    return get_type_hints(settings)


def _options(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _type_schema(hint: Any) -> dict[str, Any]:
    names: list[str] = []
    for option in _options(hint):
        if get_origin(option) is Literal:
            return {"type": "string", "enum": list(get_args(option))}
        names.append("null" if option is type(None) else _JSON_NAMES[option])
    return {"type": names[0] if len(names) == 1 else names}


def _check(value: Any, hint: Any, limits: Mapping[str, Any]) -> tuple[str | None, Any]:
    options = _options(hint)
    if value is None and type(None) in options:
        return None, None
    for option in options:
        if get_origin(option) is Literal:
            choices = get_args(option)
            expected = f"must be one of {', '.join(map(str, choices))}"
            return None if value in choices else f"{expected}; got {_format_value(value)}", value
        if option is type(None):
            continue
        if option is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value) if abs(value) < 2**1023 else math.inf
        # Python counts bool as int; a request must not.
        if isinstance(value, option) and (option is bool or not isinstance(value, bool)):
            return _in_limits(value, limits), value
    expected = " or ".join("null" if option is type(None) else _JSON_NAMES[option] for option in options)
    return f"must be {expected}; got {_format_value(value)}", value


def _format_value(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_VALUE_CHARACTERS else f"{text[: _MAX_VALUE_CHARACTERS - 3]}..."


def _in_limits(value: Any, limits: Mapping[str, Any]) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return "must be a finite number"
    low, high = limits.get("minimum"), limits.get("maximum")
    if low is not None and low == high and value != low:
        return f"must be {low}; got {_format_value(value)}"
    if low is not None and value < low:
        return f"must be at least {low}; got {_format_value(value)}"
    if high is not None and value > high:
        return f"must be at most {high}; got {_format_value(value)}"
    return None
