"""`unveil accounts | retention`: an operator's commands, which work on the database and files directly."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol, TypeVar

import typer

from unveil.app.cli import references
from unveil.app.cli.common import (
    CommandFailed,
    Json,
    State,
    Url,
    UsageError,
    connect,
    database_errors_to_exit_code,
    format_date,
    load_state_dir,
    print_items,
    print_json,
    print_result,
    read_keyring,
    read_settings,
)
from unveil.app.cli.groups import CommandGroup

# The service's modules are imported by the commands that need them: `unveil --help` must not wait for a web framework.
if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from unveil.app.accounts.schemas import AccountCreate, AccountCreated, AccountOut
    from unveil.app.http.pagination import Page, PageRequest
    from unveil.app.security.envelope import Keyring
    from unveil.app.security.principal import Scope
    from unveil.app.settings import Settings

accounts = CommandGroup(help="Create, list and revoke accounts.")
T = TypeVar("T")


class _HasId(Protocol):
    id: str


Item = TypeVar("Item", bound=_HasId)


def register(app: typer.Typer) -> None:
    app.add_typer(accounts, name="accounts")
    app.command()(retention)


@accounts.command("create")
def create_account(
    name: str,
    scopes: Annotated[
        str, typer.Option(help="Comma-separated: encrypt, keys, keys:export, evaluate, read, admin")
    ] = "encrypt,keys,evaluate,read",
    max_cost_core_hours: Annotated[
        float | None,
        typer.Option(min=0, help="Quota in core hours per 30 days; default: UNVEIL_MAX_COST_CORE_HOURS"),
    ] = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Create an account and print its bearer token. The token is shown only once."""
    from unveil.app.accounts import service

    body = _parse_account(name, scopes)

    async def create(session: AsyncSession, keyring: Keyring, _: Settings) -> AccountCreated:
        created = await service.create(
            session, keyring, body.name, body.scopes, max_cost_core_hours=max_cost_core_hours
        )
        await session.commit()
        return created

    account = run_with_session(state, create)
    print_result(as_json, account.model_dump(mode="json"), account.token)


def parse_scopes(scopes: str) -> list[Scope]:
    """Raises UsageError naming the scope that does not exist."""
    return _parse_account("any", scopes).scopes


def _parse_account(name: str, scopes: str) -> AccountCreate:
    from pydantic import ValidationError

    from unveil.app.accounts.schemas import AccountCreate

    try:
        return AccountCreate.model_validate({"name": name, "scopes": [scope.strip() for scope in scopes.split(",")]})
    except ValidationError as error:
        raise UsageError("; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors())) from None


@accounts.command("list")
def list_accounts(state: State = None, as_json: Json = False) -> None:
    """List all accounts."""
    items = [
        account.model_dump(mode="json")
        for account in run_with_session(state, lambda session, *_: _read_accounts(session))
    ]
    rows = [(item["id"], item["name"], " ".join(item["scopes"]), format_date(item["revoked_at"])) for item in items]
    print_items(as_json, items, ("id", "name", "scopes", "revoked"), rows, ["name", "scopes"])


async def read_all(
    list_page: Callable[[AsyncSession, PageRequest], Awaitable[Page[Item]]], session: AsyncSession
) -> list[Item]:
    """The items of all pages of a list."""
    from unveil.app.http.pagination import PageRequest

    rows: list[Item] = []
    after = None
    while True:
        page = await list_page(session, PageRequest(200, after))
        rows += page.items
        if page.next is None:
            return rows
        after = rows[-1].id


async def _read_accounts(session: AsyncSession) -> list[AccountOut]:
    from unveil.app.accounts import service

    return await read_all(service.list_accounts, session)


async def resolve_account(session: AsyncSession, reference: str) -> str:
    """The id of an account. Raises UsageError."""
    accounts = await _read_accounts(session)
    return references.resolve(reference, "account", ((account.id, account.name) for account in accounts))


@accounts.command("quota")
def set_quota(
    name: Annotated[str, typer.Argument(help="Name, id or a prefix of it, or latest")],
    core_hours: Annotated[
        float | None, typer.Argument(min=0, help="Core hours per 30 days; default: UNVEIL_MAX_COST_CORE_HOURS")
    ] = None,
    state: State = None,
) -> None:
    """Set the quota of an account: the core hours that its jobs may use in 30 days."""
    from unveil.app.accounts import service

    async def update(session: AsyncSession, _: Keyring, __: Settings) -> None:
        await service.set_quota(session, await resolve_account(session, name), core_hours)

    run_with_session(state, update)


@accounts.command("revoke")
def revoke_account(
    name: Annotated[str, typer.Argument(help="Name, id or a prefix of it, or latest")], state: State = None
) -> None:
    """Revoke an account: its tokens, dashboard sessions and jobs end at once. Its resources are kept."""
    from unveil.app.accounts import service

    async def revoke(session: AsyncSession, _: Keyring, __: Settings) -> None:
        await service.revoke(session, await resolve_account(session, name))

    run_with_session(state, revoke)


@accounts.command("sign-in")
def sign_in(
    name: Annotated[str, typer.Argument(help="Name, id or a prefix of it, or latest")],
    url: Url = None,
    state: State = None,
) -> None:
    """Print a link that signs in to the dashboard once."""
    from unveil.app.accounts import service

    async def code(session: AsyncSession, keyring: Keyring, settings: Settings) -> str:
        account = await service.get(session, await resolve_account(session, name))
        return await service.create_sign_in_code(session, keyring, account.id, settings.sign_in_code_ttl_minutes)

    code_value = run_with_session(state, code)
    with connect(url, None, state) as client:
        print(f"{client.url}/sign-in?code={code_value}")


def run_with_session(state: Path | None, operation: Callable[[AsyncSession, Keyring, Settings], Awaitable[T]]) -> T:
    """Run a service function as the service would. Raises CommandFailed and UsageError with its answer."""
    import asyncio

    from unveil.app.db.session import async_engine, async_sessions
    from unveil.app.errors.problem import Problem, UnknownAccount

    load_state_dir(state)
    settings = read_settings()
    keyring = read_keyring(settings)

    async def run() -> T:
        engine = async_engine(settings)
        try:
            async with async_sessions(engine)() as session:
                return await operation(session, keyring, settings)
        finally:
            await engine.dispose()

    try:
        with database_errors_to_exit_code():
            return asyncio.run(run())
    except UnknownAccount as problem:
        raise UsageError(problem.detail.replace("GET /accounts", "`unveil accounts list`")) from None
    except Problem as problem:
        raise CommandFailed(problem.detail) from None


def retention(
    older_than: Annotated[str, typer.Option(help="Time since the evaluation ended, such as 30d or 12h")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be deleted, and delete nothing")] = False,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Delete evaluations that ended before a given age, expired records, and blobs that no row names."""
    from unveil.app.db.session import session_scope
    from unveil.app.ops.retention import delete_expired

    age = _parse_age(older_than)
    load_state_dir(state)
    settings = read_settings()
    with database_errors_to_exit_code(), session_scope(settings) as session:
        counts = delete_expired(session, settings, age, dry_run=dry_run)
    if as_json:
        print_json({"dry_run": dry_run, **counts})
        return
    for what, count in counts.items():
        print(f"{'would delete' if dry_run else 'deleted'} {count} {what}")


def _parse_age(text: str) -> timedelta:
    number, unit = text[:-1], {"d": timedelta(days=1), "h": timedelta(hours=1)}.get(text[-1:])
    try:
        if unit is not None and number.isdecimal():
            return int(number) * unit
    except (OverflowError, ValueError):  # longer than a timedelta, more digits than int() reads
        pass
    raise UsageError(f"{text[:20]!r} is not an age; write, for example, 30d or 12h")
