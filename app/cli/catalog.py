"""`unveil schemes` and `unveil attacks`: the catalog, and the settings of one entry."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from unveil.app.cli import completion
from unveil.app.cli.common import (
    Json,
    State,
    Token,
    Url,
    UsageError,
    connect,
    make_table,
    print_items,
    print_json,
    stdout,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from unveil.app.client.types import Attack, Scheme

T = TypeVar("T", "Scheme", "Attack")


def register(app: typer.Typer) -> None:
    app.command()(schemes)
    app.command()(attacks)


def schemes(
    name: Annotated[
        str | None, typer.Argument(help="Scheme to show", autocompletion=completion.complete_schemes)
    ] = None,
    width: Annotated[int, typer.Option(min=1, help="Image width in pixels, for the key space")] = 96,
    height: Annotated[int, typer.Option(min=1)] = 96,
    url: Url = None,
    token: Token = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """List schemes with their key spaces, or show the settings of one scheme."""
    with connect(url, token, state) as client:
        items = client.schemes(width, height)
    if name is not None:
        scheme = _find_by_name(name, items)
        _print_item(
            scheme,
            as_json,
            f"keys for {width}x{height}: {_format_key_count(scheme)}",
            f"attacks: {', '.join(scheme['attacks'])}",
            *([f"missing: {scheme['missing_part']}"] if scheme.get("missing_part") else []),
        )
        return
    headings = ("scheme", "what it is", f"keys for {width}x{height}", "trained")
    rows = [(s["name"], s["title"], _format_key_count(s), "yes" if s["trains"] else "") for s in items]
    print_items(as_json, items, headings, rows, ["what it is"])


def attacks(
    name: Annotated[
        str | None, typer.Argument(help="Attack to show", autocompletion=completion.complete_attacks)
    ] = None,
    url: Url = None,
    token: Token = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """List attacks with their threat models and the schemes they apply to, or show the settings of one attack."""
    with connect(url, token, state) as client:
        items = client.attacks()
    if name is not None:
        attack = _find_by_name(name, items)
        profiles = [
            f"profile {profile}: {', '.join(f'{key}={value}' for key, value in settings.items())}"
            for profile, settings in attack["profiles"].items()
            if settings
        ]
        not_applicable = [f"not on {scheme}: {reason}" for scheme, reason in attack["not_applicable"].items()]
        _print_item(attack, as_json, f"the attacker holds: {attack['threat_model']}", *profiles, *not_applicable)
        return
    headings = ("attack", "what it is", "the attacker holds", "applies to")
    rows = [(a["name"], a["title"], a["threat_model"], ", ".join(_targets(a))) for a in items]
    print_items(as_json, items, headings, rows, ["what it is", "applies to"])


def _targets(attack: Attack) -> list[str]:
    return [*attack["applies_to"], *(["unknown schemes"] if attack["takes_unknown_schemes"] else [])]


def _find_by_name(name: str, items: Sequence[T]) -> T:
    for item in items:
        if item["name"] == name:
            return item
    raise UsageError(f"unknown name {name!r}; choose from {', '.join(item['name'] for item in items)}")


def _print_item(item: Scheme | Attack, as_json: bool, *lines: str) -> None:
    if as_json:
        print_json(item)
        return
    from rich.console import Group
    from rich.text import Text

    heading = Text.assemble((item["name"], "bold"), f": {item['title']} ({item['source']})")
    stdout().print(Group(heading, item["summary"], "", *lines, *_settings_table(item["parameters"])), highlight=False)


def _settings_table(schema: Mapping[str, Any]) -> list[RenderableType]:
    properties: Mapping[str, Mapping[str, Any]] = schema.get("properties", {})
    if not properties:
        return ["no settings"]
    rows = []
    for name, setting in properties.items():
        choices = f" ({' or '.join(map(str, setting['enum']))})" if "enum" in setting else ""
        rows.append((name, json.dumps(setting.get("default")), setting.get("description", "") + choices))
    return [make_table(("setting", "default", "meaning"), rows, ["meaning"])]


def _format_key_count(scheme: Scheme) -> str:
    bits = [variant["key_space_bits"] for variant in scheme["variants"]]
    return " or ".join(sorted({"not counted" if n is None else f"2^{n:,.0f}" for n in bits}))
