"""What the shell is offered when Tab is pressed: names of the catalog, ids of a service that answers at once."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from app.client import Client, UnveilError


def schemes(incomplete: str) -> list[str]:
    from models.catalog import schemes

    return _last_of_list([*schemes(), "all"], incomplete)


def attacks(incomplete: str) -> list[str]:
    from models.catalog import attacks

    return _last_of_list([*attacks(), "all"], incomplete)


def dataset(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    with _client(ctx) as client:
        return _answered(((item["id"], item["name"]) for item in client.datasets.list()), incomplete)


def evaluation(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    with _client(ctx) as client:
        return _answered(
            ((item["id"], f"{item['name']}, {item['status']}") for item in client.evaluations.list()), incomplete
        )


def key(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    with _client(ctx) as client:
        return _answered(((item.id, f"{item.scheme}, {item.status}") for item in client.keys.list()), incomplete)


def _last_of_list(names: Iterable[str], incomplete: str) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in names if name.startswith(last)]


def _client(ctx: typer.Context) -> Client:
    """Of what is typed so far. No patience: nobody waits for a Tab."""
    given = {name: ctx.params.get(name) for name in ("url", "token")}
    return Client(**given, local=ctx.params.get("state"), timeout=1, retries=0)


def _answered(items: Iterable[tuple[str, str]], incomplete: str) -> list[tuple[str, str]]:
    try:
        return [item for item in items if item[0].startswith(incomplete)]
    except UnveilError:
        return []
