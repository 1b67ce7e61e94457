"""`unveil webhooks`: URLs that the service informs of finished evaluations."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from unveil.app.cli import references
from unveil.app.cli.common import (
    Json,
    State,
    Token,
    Url,
    connect,
    format_date,
    print_items,
    print_result,
    stacked,
    stderr,
)
from unveil.app.cli.groups import CommandGroup

if TYPE_CHECKING:
    from unveil.app.client.client import Client

webhooks = CommandGroup(help="URLs that the service informs of finished evaluations with signed requests.")

WebhookId = Annotated[str, typer.Argument(help="webhook_..., its beginning or end, or latest", metavar="WEBHOOK")]


def register(app: typer.Typer) -> None:
    app.add_typer(webhooks, name="webhooks")


@webhooks.command("create")
def create_webhook(
    address: Annotated[str, typer.Argument(help="URL that receives a POST when an evaluation ends", metavar="URL")],
    url: Url = None,
    token: Token = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Register a URL and print the secret of its signatures, which is shown only once."""
    with connect(url, token, state) as client:
        webhook = client.webhooks.create(address)
    stderr().print(f"{webhook['id']} is informed of every evaluation that ends; the secret verifies its signatures:")
    print_result(as_json, webhook, webhook["secret"])


@webhooks.command("list")
def list_webhooks(url: Url = None, token: Token = None, state: State = None, as_json: Json = False) -> None:
    """List your webhooks, without their secrets."""
    with connect(url, token, state) as client:
        items = client.webhooks.list()
    rows = [
        (stacked(item["id"], item["url"]), ", ".join(item["events"]), format_date(item["created_at"])) for item in items
    ]
    print_items(as_json, items, ("id", "events", "created"), rows, ["id"])


@webhooks.command("deliveries")
def list_deliveries(
    id: WebhookId,
    limit: Annotated[int, typer.Option(min=1, help="How many of the newest deliveries to list")] = 20,
    url: Url = None,
    token: Token = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """List what was sent to a webhook, newest first, and why it failed."""
    with connect(url, token, state) as client:
        items = list(islice(client.webhooks.deliveries(_resolve(client, id)), limit))
    rows = [
        (
            stacked(item["evaluation"], *filter(None, [item["error"]])),
            item["status"],
            str(item["attempts"]),
            item["next_attempt_at"] or "",
        )
        for item in items
    ]
    print_items(as_json, items, ("evaluation", "status", "attempts", "next attempt"), rows, ["evaluation"])


@webhooks.command("delete")
def delete_webhook(id: WebhookId, url: Url = None, token: Token = None, state: State = None) -> None:
    """Delete a webhook. Its pending deliveries are not sent."""
    with connect(url, token, state) as client:
        client.webhooks.delete(_resolve(client, id))


def _resolve(client: Client, reference: str) -> str:
    return references.resolve(reference, "webhook", ((item["id"], item["url"]) for item in client.webhooks.list()))
