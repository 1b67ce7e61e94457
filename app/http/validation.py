"""Turns FastAPI's validation errors into problems that name each field and the value it got."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.datastructures import FormData

from unveil.app.errors.problem import BadRequest, Invalid, Problem

_MAX_VALUE_CHARACTERS = 60
# As the catalog words the errors of settings; by pydantic's type of error.
_WORDS = {
    "missing": "is missing",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be below {lt}",
    "string_too_short": "needs {min_length} or more characters",
    "string_too_long": "takes at most {max_length} characters",
    "too_short": "needs {min_length} or more entries",
    "too_long": "takes at most {max_length} entries",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "string_type": "must be text",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "literal_error": "must be {expected}",
}


def to_problem(error: RequestValidationError) -> Problem:
    errors = [(_pointer(part), _message(part, error.body)) for part in error.errors()]
    if any(part["type"] == "json_invalid" for part in error.errors()):
        return BadRequest("the body is not JSON", errors)
    return Invalid("; ".join(f"{pointer or 'body'}: {message}" for pointer, message in errors[:3]), errors)


def _pointer(part: Mapping[str, Any]) -> str:
    """A JSON pointer (RFC 6901) into the body; elsewhere it begins with the place, as in /query/limit."""
    location = () if part["type"] == "json_invalid" else part["loc"]
    names = location[1:] if location and location[0] == "body" else location
    return "".join("/" + str(name).replace("~", "~0").replace("/", "~1") for name in names)


def _message(part: Mapping[str, Any], body: Any) -> str:
    words = _WORDS.get(part["type"])
    message = str(part["msg"]) if words is None else words.format(**part.get("ctx", {}))
    if part["type"] == "extra_forbidden":
        return "unknown field; remove it"
    if part["type"] == "missing" and isinstance(body, FormData) and part["loc"][-1] in body:
        return "is empty"  # FastAPI treats an empty form field as missing
    if part["type"] == "value_error":  # from a validator of this project; pydantic prefixes "Value error, "
        message = str(part["ctx"]["error"])
    if part["type"] == "json_invalid":
        message = f"{part.get('ctx', {}).get('error', message)} at character {part['loc'][-1]}"
    value = part.get("input")
    if part["type"] != "missing" and isinstance(value, (str, int, float, bool)):
        text = json.dumps(value)
        message += f"; got {text if len(text) <= _MAX_VALUE_CHARACTERS else text[: _MAX_VALUE_CHARACTERS - 3] + '...'}"
    return message
