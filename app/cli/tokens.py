"""`unveil tokens`: the bearer tokens of accounts, on the service's database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from unveil.app.cli.admin import parse_scopes, run_with_session
from unveil.app.cli.common import Json, State, make_table, print_json, stdout

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from unveil.app.accounts.schemas import TokenCreated, TokenOut
    from unveil.app.security.envelope import Keyring
    from unveil.app.settings import Settings

tokens = typer.Typer(help="Bearer tokens of accounts.", no_args_is_help=True)
AccountArgument = Annotated[str, typer.Argument(help="Name or id of the account")]


def register(app: typer.Typer) -> None:
    app.add_typer(tokens, name="tokens")


@tokens.command("list")
def list_tokens(
    account: Annotated[str | None, typer.Argument(help="Name or id of the account; all without it")] = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """List tokens by id. The tokens themselves are stored as hashes only."""
    from unveil.app.accounts import service

    async def read(session: AsyncSession, _: Keyring, __: Settings) -> list[TokenOut]:
        return await service.list_tokens(session, account)

    rows = run_with_session(state, read)
    if as_json:
        print_json([token.model_dump(mode="json") for token in rows])
        return
    table = make_table("id", "account", "label", "scopes", "revoked", wraps=["account", "label", "scopes"])
    for token in rows:
        revoked = "" if token.revoked_at is None else f"{token.revoked_at:%Y-%m-%d}"
        table.add_row(token.id, token.account, token.label, " ".join(token.scopes), revoked)
    stdout.print(table)


@tokens.command("create")
def create_token(
    account: AccountArgument,
    scopes: Annotated[str, typer.Option(help="Comma-separated: encrypt, keys, keys:export, evaluate, read, admin")],
    label: Annotated[str, typer.Option(help="What the token is for, shown in lists")] = "",
    state: State = None,
    as_json: Json = False,
) -> None:
    """Create a further token of an account and print it, this once."""
    from unveil.app.accounts import service

    wanted = parse_scopes(scopes)

    async def create(session: AsyncSession, keyring: Keyring, _: Settings) -> TokenCreated:
        return await service.create_token(session, keyring, account, wanted, label)

    created = run_with_session(state, create)
    if as_json:
        print_json(created.model_dump(mode="json"))
    else:
        print(created.token)


@tokens.command("revoke")
def revoke_token(
    id: Annotated[str, typer.Argument(help="tok_..., see `unveil tokens list`")], state: State = None
) -> None:
    """End one token at once; sessions lose the scopes that no other token of the account has."""
    from unveil.app.accounts import service

    async def revoke(session: AsyncSession, _: Keyring, __: Settings) -> None:
        await service.revoke_token(session, id)

    run_with_session(state, revoke)
