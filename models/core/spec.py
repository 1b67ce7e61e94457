"""The spec grammar: NAME[:SETTING]... names a scheme or an attack with its settings, as in `fr:L=4:nibblewise=true`.

A setting is SETTING=VALUE. The value alone suffices if it is a choice of exactly one setting (`pixelwise:different`),
a key id (`tanaka:key_...`) or a dataset id (`external:ds_...`). A value that is valid JSON is read as JSON, any other
value as text. The command line, `models.evaluation` and Python code share this grammar.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from unveil.models.core.settings_schema import ParameterError

# The scheme name of uploaded ciphertexts, which an unknown scheme may have produced.
EXTERNAL = "external"

_SETTING_BY_ID_PREFIX = {"key_": "key_id", "ds_": "dataset"}


def parse_spec(text: str, schemas: Mapping[str, Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Parse one spec into a name and its settings; names and values of settings are not validated.

    schemas: the JSON Schema properties of the settings of every known name. Raises ParameterError for text outside
    the grammar.
    """
    name, *parts = text.split(":")
    if "," in text or "=" in name:
        colons = text.replace(",", ":") if "=" not in name else f"NAME:{text}"
        raise ParameterError([("", f"{text!r}: separate settings with colons: {colons}")])
    settings: dict[str, Any] = {}
    for part in parts:
        setting, equals, value = part.partition("=")
        if equals:
            settings[setting] = _parse_value(value)
        else:
            settings[_setting_of_value(name, part, schemas)] = part
    return name, settings


def _setting_of_value(name: str, value: str, schemas: Mapping[str, Mapping[str, Any]]) -> str:
    for prefix, setting in _SETTING_BY_ID_PREFIX.items():
        if value.startswith(prefix):
            return setting
    if name not in schemas:
        raise ParameterError([("", f"unknown name {name!r}; choose from {', '.join(schemas)}")])
    matches = [setting for setting, schema in schemas[name].items() if value in schema.get("enum", ())]
    if len(matches) != 1:
        known = ", ".join(f"{setting}={_format_choices(schema)}" for setting, schema in schemas[name].items())
        raise ParameterError([("", f"{name}:{value}: write one of {name}:SETTING=VALUE; settings: {known or 'none'}")])
    return matches[0]


def _format_choices(schema: Mapping[str, Any]) -> str:
    """The choices of a setting, or else the types of its values: "same|different", "integer|null"."""
    choices = schema.get("enum") or schema.get("type", "value")
    return choices if isinstance(choices, str) else "|".join(map(str, choices))


def _parse_value(text: str) -> Any:
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)  # Python's parser accepts NaN and infinity, which are not JSON
    except ValueError:
        return text
    return value
