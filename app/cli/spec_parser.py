"""How schemes and attacks are written on a command line: NAME[:SETTING]..., separated by commas.

A setting is NAME=VALUE, or just the value where only one of the settings can have it: `pixelwise:different`,
`fr:b=1:nibblewise=true`, `tn-gan:key_...`, `external:ds_...`. The catalog's JSON Schemas say which; `all` stands for
everything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from unveil.app.cli.common import Misused, parse_json

_IDS = {"key_": "key_id", "ds_": "dataset"}  # what begins so belongs to that setting, which no catalog names


def parse(text: str, catalog: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The list as an order takes it. Raises Misused."""
    schemas = {item["name"]: item["parameters"].get("properties", {}) for item in catalog}
    if text.strip() == "all":
        return [{"name": name} for name in schemas]
    named = [_one(word.strip(), schemas) for word in text.split(",") if word.strip()]
    if not named:
        raise Misused(f"nothing is named in {text!r}; known: {', '.join(schemas)}")
    return named


def parse_one(text: str, catalog: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    """The name and the settings of the one scheme that a key has. Raises Misused."""
    named = parse(text, catalog)
    if len(named) != 1:
        raise Misused(f"{text!r}: a key belongs to one scheme; name one")
    return named[0].pop("name"), named[0]


def label(thing: Mapping[str, Any], catalog: Sequence[Mapping[str, Any]] = ()) -> str:
    """A scheme or an attack in a few words; settings that have their defaults go without saying."""
    defaults = {
        name: schema.get("default")
        for item in catalog
        if item["name"] == thing["name"]
        for name, schema in item["parameters"].get("properties", {}).items()
    }
    said = [
        str(value) if isinstance(value, str) else f"{name}={json.dumps(value)}"
        for name, value in thing.items()
        if name not in ("name", "key_id") and (name == "key_mode" or name not in defaults or defaults[name] != value)
    ]
    return ":".join([str(thing["name"]), *said])


def _one(word: str, schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    name, *settings = word.split(":")
    parsed: dict[str, Any] = {"name": name}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if equals:
            parsed[key] = _value(value)
        else:
            parsed[_owner(name, setting, schemas)] = setting
    return parsed


def _owner(name: str, value: str, schemas: Mapping[str, Mapping[str, Any]]) -> str:
    for prefix, owner in _IDS.items():
        if value.startswith(prefix):
            return owner
    if name not in schemas:
        raise Misused(f"{name!r} is not in the catalog; known: {', '.join(schemas)}")
    owners = [key for key, schema in schemas[name].items() if value in schema.get("enum", [])]
    if len(owners) != 1:
        choices = ", ".join(f"{key}={'|'.join(map(str, _choices(schema)))}" for key, schema in schemas[name].items())
        raise Misused(f"{name}:{value}: write one of {name}:NAME=VALUE; settings: {choices or 'none'}")
    return owners[0]


def _choices(schema: Mapping[str, Any]) -> Sequence[Any]:
    """Values, or else the types of values."""
    found = schema.get("enum") or schema.get("type", "value")
    return [found] if isinstance(found, str) else list(found)


def _value(text: str) -> Any:
    """Numbers, true, false and null as such; everything else is text."""
    try:
        return parse_json(text)
    except ValueError:
        return text
