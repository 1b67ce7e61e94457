"""`unveil tokens`: the bearer tokens of accounts, on the service's database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from unveil.app.cli import references
from unveil.app.cli.admin import parse_scopes, resolve_account, run_with_session
from unveil.app.cli.common import Json, State, format_date, print_items, print_result
from unveil.app.cli.groups import CommandGroup

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from unveil.app.accounts.schemas import TokenCreated, TokenOut
    from unveil.app.security.envelope import Keyring
    from unveil.app.settings import Settings

tokens = CommandGroup(help="List, create and revoke the bearer tokens of accounts.")
AccountArgument = Annotated[str, typer.Argument(help="Name of the account, its id or a prefix of it, or latest")]


def register(app: typer.Typer) -> None:
    app.add_typer(tokens, name="tokens")


@tokens.command("list")
def list_tokens(
    account: Annotated[str | None, typer.Argument(help="Name or id of an account; default: all accounts")] = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """List tokens by id. The tokens themselves are not stored, only their hashes."""
    from unveil.app.accounts import service

    async def read(session: AsyncSession, _: Keyring, __: Settings) -> list[TokenOut]:
        return await service.list_tokens(session, None if account is None else await resolve_account(session, account))

    found = run_with_session(state, read)
    items = [token.model_dump(mode="json") for token in found]
    rows = [
        (item["id"], item["account"], item["label"], " ".join(item["scopes"]), format_date(item["revoked_at"]))
        for item in items
    ]
    headings = ("id", "account", "label", "scopes", "revoked")
    print_items(as_json, items, headings, rows, ["account", "label", "scopes"])


@tokens.command("create")
def create_token(
    account: AccountArgument,
    scopes: Annotated[str, typer.Option(help="Comma-separated: encrypt, keys, keys:export, evaluate, read, admin")],
    label: Annotated[str, typer.Option(help="Purpose of the token, shown in lists")] = "",
    state: State = None,
    as_json: Json = False,
) -> None:
    """Create another token for an account and print it. The token is shown only once."""
    from unveil.app.accounts import service

    wanted = parse_scopes(scopes)

    async def create(session: AsyncSession, keyring: Keyring, _: Settings) -> TokenCreated:
        return await service.create_token(session, keyring, await resolve_account(session, account), wanted, label)

    token = run_with_session(state, create)
    print_result(as_json, token.model_dump(mode="json"), token.token)


@tokens.command("revoke")
def revoke_token(
    id: Annotated[
        str, typer.Argument(help="Id (tok_...) or a prefix of it, label, or latest; see `unveil tokens list`")
    ],
    state: State = None,
) -> None:
    """Revoke a token at once. Dashboard sessions lose the scopes that no other token of the account has."""
    from unveil.app.accounts import service

    async def revoke(session: AsyncSession, _: Keyring, __: Settings) -> None:
        tokens = [(token.id, token.label) for token in reversed(await service.list_tokens(session))]
        await service.revoke_token(session, references.resolve(id, "token", tokens))

    run_with_session(state, revoke)
