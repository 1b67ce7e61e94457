"""Shell completion: names of the catalog, and ids from the service if it answers within a second."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import typer

from unveil.app.errors.problem import UnveilError

if TYPE_CHECKING:
    from unveil.app.client.client import Client


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
    """Ids of the service that the options name, with descriptions escaped, because typer renders them as markup.

    It does not retry: a user does not wait for completion.
    """
    from rich.markup import escape

    from unveil.app.client.client import Client

    options = {name: ctx.params.get(name) for name in ("url", "token")}
    try:
        with Client(**options, local=ctx.params.get("state"), timeout=1, retries=0) as client:
            return [(id, escape(description)) for id, description in items(client) if id.startswith(incomplete)]
    except (UnveilError, OSError, ValueError):  # the service does not answer; no such folder; invalid address
        return []
