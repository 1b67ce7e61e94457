"""What the shell is offered when Tab is pressed: names of the catalog, ids of a service that answers at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import typer
from rich.markup import escape

from unveil.app.client import Client
from unveil.app.errors.problem import UnveilError


def complete_schemes(incomplete: str) -> list[str]:
    from unveil.models.catalog import schemes

    return _complete_last_item([*schemes(), "all"], incomplete)


def complete_attacks(incomplete: str) -> list[str]:
    from unveil.models.catalog import attacks

    return _complete_last_item([*attacks(), "all"], incomplete)


def complete_dataset(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    return _complete_from_service(
        ctx, incomplete, lambda of: ((item["id"], item["name"]) for item in of.datasets.list())
    )


def complete_evaluation(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    return _complete_from_service(
        ctx,
        incomplete,
        lambda of: ((item["id"], f"{item['name']}, {item['status']}") for item in of.evaluations.list()),
    )


def complete_key(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    return _complete_from_service(
        ctx, incomplete, lambda of: ((item.id, f"{item.scheme}, {item.status}") for item in of.keys.list())
    )


def _complete_last_item(names: Iterable[str], incomplete: str) -> list[str]:
    earlier, comma, last = incomplete.rpartition(",")
    return [f"{earlier}{comma}{name}" for name in names if name.startswith(last)]


def _complete_from_service(
    ctx: typer.Context, incomplete: str, items: Callable[[Client], Iterable[tuple[str, str]]]
) -> list[tuple[str, str]]:
    """Of the service that is typed so far, escaped for typer, which takes what it shows beside an id for markup.

    No patience: nobody waits for a Tab.
    """
    options = {name: ctx.params.get(name) for name in ("url", "token")}
    try:
        with Client(**options, local=ctx.params.get("state"), timeout=1, retries=0) as client:
            return [(id, escape(description)) for id, description in items(client) if id.startswith(incomplete)]
    except (UnveilError, OSError, ValueError):  # nobody answers; no such folder; no address
        return []
