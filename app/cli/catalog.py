"""`unveil schemes` and `unveil attacks`: what can be ordered, and the settings of one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from unveil.app.cli import completion
from unveil.app.cli.common import Json, Misused, State, Token, Url, connect, listing, out, print_json
from unveil.app.client.types import Attack, Scheme

T = TypeVar("T", Scheme, Attack)


def register(app: typer.Typer) -> None:
    app.command()(schemes)
    app.command()(attacks)


def schemes(
    name: Annotated[
        str | None, typer.Argument(help="Tell everything of this one", autocompletion=completion.schemes)
    ] = None,
    width: Annotated[int, typer.Option(min=1, help="Of the images, for the key space")] = 96,
    height: Annotated[int, typer.Option(min=1)] = 96,
    url: Url = None,
    token: Token = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Protection schemes: what they are, how many keys they have; the settings of one."""
    with connect(url, token, state) as client:
        found = client.schemes(width, height)
    if name is not None:
        scheme = _named(name, found)
        _show(
            scheme, as_json, f"keys for {width}x{height}: {_keys(scheme)}", f"attacks: {', '.join(scheme['attacks'])}"
        )
        return
    if as_json:
        print_json(found)
        return
    table = listing("scheme", "what it is", f"keys for {width}x{height}", "trained", wraps=["what it is"])
    for scheme in found:
        table.add_row(scheme["name"], scheme["title"], _keys(scheme), "yes" if scheme["trains"] else "")
    out.print(table)


def attacks(
    name: Annotated[
        str | None, typer.Argument(help="Tell everything of this one", autocompletion=completion.attacks)
    ] = None,
    url: Url = None,
    token: Token = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Attacks: what the attacker holds, and what they apply to; the settings of one."""
    with connect(url, token, state) as client:
        found = client.attacks()
    if name is not None:
        attack = _named(name, found)
        profiles = [
            f"profile {profile}: {', '.join(f'{key}={value}' for key, value in settings.items())}"
            for profile, settings in attack["profiles"].items()
            if settings
        ]
        refused = [f"not on {scheme}: {reason}" for scheme, reason in attack["not_applicable"].items()]
        _show(attack, as_json, f"the attacker holds: {attack['threat_model']}", *profiles, *refused)
        return
    if as_json:
        print_json(found)
        return
    table = listing("attack", "what it is", "the attacker holds", "applies to", wraps=["what it is", "applies to"])
    for attack in found:
        table.add_row(attack["name"], attack["title"], attack["threat_model"], ", ".join(attack["applies_to"]))
    out.print(table)


def _named(name: str, found: Sequence[T]) -> T:
    for item in found:
        if item["name"] == name:
            return item
    raise Misused(f"there is no {name!r}; known: {', '.join(item['name'] for item in found)}")


def _show(item: Scheme | Attack, as_json: bool, *lines: str) -> None:
    if as_json:
        print_json(item)
        return
    head = Text.assemble((item["name"], "bold"), f": {item['title']} ({item['source']})")
    out.print(Group(head, item["summary"], "", *lines, *_settings(item["parameters"])), highlight=False)


def _settings(schema: Mapping[str, Any]) -> list[RenderableType]:
    properties: Mapping[str, Mapping[str, Any]] = schema.get("properties", {})
    if not properties:
        return ["no settings"]
    table = listing("setting", "default", "meaning", wraps=["meaning"])
    for name, setting in properties.items():
        choices = f" ({' or '.join(map(str, setting['enum']))})" if "enum" in setting else ""
        table.add_row(name, json.dumps(setting.get("default")), setting.get("description", "") + choices)
    return [table]


def _keys(scheme: Scheme) -> str:
    bits = [variant["key_space_bits"] for variant in scheme["variants"]]
    return " or ".join(sorted({"not counted" if n is None else f"2^{n:,.0f}" for n in bits}))
