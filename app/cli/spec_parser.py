"""Lists of schemes and attacks on the command line: specs separated by commas, or `all` for the whole catalog.

`unveil.models.core.spec` defines the grammar of one spec.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unveil.app.cli.common import UsageError
from unveil.models.core import spec
from unveil.models.core.settings_schema import ParameterError


def parse_specs(text: str, catalog: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Parse a list of specs into the entries of a request. Raises UsageError."""
    schemas = {item["name"]: item["parameters"].get("properties", {}) for item in catalog}
    if text.strip() == "all":
        return [{"name": item["name"]} for item in catalog if not item.get("reads_upload")]
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
