"""Lists of schemes and attacks on the command line: specs separated by commas, or `all` for the whole catalog.

`unveil.models.core.spec` defines the grammar of one spec.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from unveil.app.cli.common import UsageError
from unveil.models.core import spec
from unveil.models.core.settings_schema import ParameterError


def parse_specs(text: str, catalog: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Parse a list of specs into the entries of a request. Raises UsageError."""
    schemas = {item["name"]: item["parameters"].get("properties", {}) for item in catalog}
    if text.strip() == "all":
        return [{"name": name} for name in schemas]
    try:
        specs = [spec.parse_spec(part.strip(), schemas) for part in text.split(",") if part.strip()]
    except ParameterError as error:
        raise UsageError(str(error)) from error
    if not specs:
        raise UsageError(f"no name in {text!r}; choose from {', '.join(schemas)}")
    return [{"name": name, **settings} for name, settings in specs]


def parse_spec(text: str, catalog: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Parse the name and the settings of the one scheme of a key. Raises UsageError."""
    specs = parse_specs(text, catalog)
    if len(specs) != 1:
        raise UsageError(f"{text!r} names {len(specs)} schemes; a key belongs to exactly one")
    return specs[0].pop("name"), specs[0]


def format_spec(entry: Mapping[str, Any], catalog: Sequence[Mapping[str, Any]] = ()) -> str:
    """The shortest spec of a scheme or an attack: settings at their defaults are left out."""
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
