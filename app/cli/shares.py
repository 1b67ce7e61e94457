"""`unveil shares`: links with which everybody can read one evaluation."""

from __future__ import annotations

from typing import Annotated

import typer

from unveil.app.cli import references
from unveil.app.cli.common import Json, State, Token, Url, connect, format_date, print_items, print_result, stderr
from unveil.app.cli.evaluations import EvaluationId, get_evaluation
from unveil.app.cli.groups import CommandGroup

shares = CommandGroup(help="Links with which everybody can read one evaluation, until they expire or are revoked.")


def register(app: typer.Typer) -> None:
    app.add_typer(shares, name="shares")


@shares.command("create")
def create_share(
    id: EvaluationId,
    days: Annotated[int, typer.Option(min=1, max=365, help="Days until the link expires")] = 30,
    images: Annotated[bool, typer.Option("--images/--no-images", help="Show images, or figures only")] = True,
    url: Url = None,
    token: Token = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Create a link and print it, which is shown only once. Everybody who has it can read the evaluation."""
    with connect(url, token, state) as client:
        share = get_evaluation(client, id).share(expires_in_days=days, images=images)
    stderr().print(f"{share['id']} expires on {format_date(share['expires_at'])}")
    print_result(as_json, share, share["url"])


@shares.command("list")
def list_shares(
    id: EvaluationId, url: Url = None, token: Token = None, state: State = None, as_json: Json = False
) -> None:
    """List the links of an evaluation that have not expired."""
    with connect(url, token, state) as client:
        items = get_evaluation(client, id).shares()
    rows = [
        (
            item["id"],
            format_date(item["created_at"]),
            format_date(item["expires_at"]),
            "yes" if item["images"] else "no",
        )
        for item in items
    ]
    print_items(as_json, items, ("id", "created", "expires", "images"), rows, ["id"])


@shares.command("revoke")
def revoke_share(
    id: EvaluationId,
    share: Annotated[str, typer.Argument(help="share_..., its beginning or end, or latest", metavar="SHARE")],
    url: Url = None,
    token: Token = None,
    state: State = None,
) -> None:
    """End a link at once."""
    with connect(url, token, state) as client:
        evaluation = get_evaluation(client, id)
        known = [(item["id"], "") for item in evaluation.shares()]
        evaluation.revoke_share(references.resolve(share, "share link", known))
