"""How schemes and attacks are written on a command line: NAME[:SETTING]..., separated by commas.

A setting is NAME=VALUE, or just the value where only one of the settings can have it: `pixelwise:different`,
`fr:b=1:nibblewise=true`, `tn-gan:key_...`, `external:ds_...`. The catalog's JSON Schemas say which; `all` stands for
everything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from unveil.app.cli.common import UsageError, parse_json

_SETTING_BY_ID_PREFIX = {
    "key_": "key_id",
    "ds_": "dataset",
}  # what begins so belongs to that setting, which no catalog names


def parse_specs(text: str, catalog: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The list as an order takes it. Raises Misused."""
    schemas = {item["name"]: item["parameters"].get("properties", {}) for item in catalog}
    if text.strip() == "all":
        return [{"name": name} for name in schemas]
    specs = [_parse_entry(word.strip(), schemas) for word in text.split(",") if word.strip()]
    if not specs:
        raise UsageError(f"nothing is named in {text!r}; known: {', '.join(schemas)}")
    return specs


def parse_spec(text: str, catalog: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    """The name and the settings of the one scheme that a key has. Raises Misused."""
    specs = parse_specs(text, catalog)
    if len(specs) != 1:
        raise UsageError(f"{text!r}: a key belongs to one scheme; name one")
    return specs[0].pop("name"), specs[0]


def format_spec(entry: Mapping[str, Any], catalog: Sequence[Mapping[str, Any]] = ()) -> str:
    """A scheme or an attack in a few words; settings that have their defaults go without saying."""
    defaults = {
        name: schema.get("default")
        for item in catalog
        if item["name"] == entry["name"]
        for name, schema in item["parameters"].get("properties", {}).items()
    }
    settings = [
        str(value) if isinstance(value, str) else f"{name}={json.dumps(value)}"
        for name, value in entry.items()
        if name not in ("name", "key_id") and (name == "key_mode" or name not in defaults or defaults[name] != value)
    ]
    return ":".join([str(entry["name"]), *settings])


def _parse_entry(spec: str, schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    name, *settings = spec.split(":")
    parsed: dict[str, Any] = {"name": name}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if equals:
            parsed[key] = _parse_value(value)
        else:
            parsed[_find_setting(name, setting, schemas)] = setting
    return parsed


def _find_setting(name: str, value: str, schemas: Mapping[str, Mapping[str, Any]]) -> str:
    for prefix, setting in _SETTING_BY_ID_PREFIX.items():
        if value.startswith(prefix):
            return setting
    if name not in schemas:
        raise UsageError(f"{name!r} is not in the catalog; known: {', '.join(schemas)}")
    settings = [key for key, schema in schemas[name].items() if value in schema.get("enum", [])]
    if len(settings) != 1:
        choices = ", ".join(
            f"{key}={'|'.join(map(str, _setting_choices(schema)))}" for key, schema in schemas[name].items()
        )
        raise UsageError(f"{name}:{value}: write one of {name}:NAME=VALUE; settings: {choices or 'none'}")
    return settings[0]


def _setting_choices(schema: Mapping[str, Any]) -> Sequence[Any]:
    """Values, or else the types of values."""
    choices = schema.get("enum") or schema.get("type", "value")
    return [choices] if isinstance(choices, str) else list(choices)


def _parse_value(text: str) -> Any:
    """Numbers, true, false and null as such; everything else is text."""
    try:
        return parse_json(text)
    except ValueError:
        return text
