"""`unveil accounts | keys | retention`: an operator's commands, which work on the database and files directly."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from unveil.app.cli.common import (
    Failed,
    Json,
    Misused,
    State,
    Url,
    connect,
    errors,
    listing,
    on_database,
    out,
    print_json,
    read_key_ring,
    read_settings,
    use_state,
)
from unveil.app.cli.keys import keys

# The service's modules are imported by the commands that need them: `unveil --help` must not wait for a web framework.
if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from unveil.app.accounts.schemas import AccountOut
    from unveil.app.security.envelope import KeyRing
    from unveil.app.settings import Settings

accounts = typer.Typer(help="Who may use the service.", no_args_is_help=True)
T = TypeVar("T")


def register(app: typer.Typer) -> None:
    app.add_typer(accounts, name="accounts")
    app.command()(retention)


# --- accounts ---


@accounts.command("create")
def create_account(
    name: str,
    scopes: Annotated[
        str, typer.Option(help="Comma-separated: encrypt, keys, keys:export, evaluate, read, admin")
    ] = "encrypt,keys,evaluate,read",
    state: State = None,
    as_json: Json = False,
) -> None:
    """Make an account and print its bearer token, this once."""
    from pydantic import ValidationError

    from unveil.app.accounts import service
    from unveil.app.accounts.schemas import AccountOrder

    try:
        order = AccountOrder.model_validate({"name": name, "scopes": [scope.strip() for scope in scopes.split(",")]})
    except ValidationError as error:
        raise Misused("; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors())) from None

    async def create(session: AsyncSession, ring: KeyRing, _: Settings) -> Any:
        made = await service.create(session, ring, order.name, order.scopes)
        await session.commit()
        return made

    made = _on_database(state, create)
    if as_json:
        print_json(made.model_dump(mode="json"))
    else:
        print(made.token)


@accounts.command("list")
def list_accounts(state: State = None, as_json: Json = False) -> None:
    """Every account."""
    from unveil.app.accounts import service
    from unveil.app.http.pagination import PageRequest

    async def read(session: AsyncSession, _: KeyRing, __: Settings) -> list[AccountOut]:
        found: list[AccountOut] = []
        after = None
        while True:
            page = await service.list_accounts(session, PageRequest(200, after))
            found += page.items
            if page.next is None:
                return found
            after = found[-1].id

    found = _on_database(state, read)
    if as_json:
        print_json([account.model_dump(mode="json") for account in found])
        return
    table = listing("id", "name", "scopes", "revoked", wraps=["name", "scopes"])
    for account in found:
        revoked = "" if account.revoked_at is None else f"{account.revoked_at:%Y-%m-%d}"
        table.add_row(account.id, account.name, " ".join(account.scopes), revoked)
    out.print(table)


@accounts.command("revoke")
def revoke_account(name: Annotated[str, typer.Argument(help="Name or id")], state: State = None) -> None:
    """End its tokens and dashboard sessions at once; what it owns stays."""
    from unveil.app.accounts import service

    async def revoke(session: AsyncSession, _: KeyRing, __: Settings) -> None:
        await service.revoke(session, name)

    _on_database(state, revoke)


@accounts.command("sign-in")
def sign_in(name: Annotated[str, typer.Argument(help="Name or id")], url: Url = None, state: State = None) -> None:
    """Print a link that opens the dashboard once."""
    from unveil.app.accounts import service

    async def code(session: AsyncSession, ring: KeyRing, settings: Settings) -> str:
        account = await service.find(session, name)
        return await service.sign_in_code(session, ring, account.id, settings.sign_in_minutes)

    made = _on_database(state, code)
    with connect(url, None, state) as client:
        print(f"{client.url}/sign-in?code={made}")


def _on_database(state: Path | None, work: Callable[[AsyncSession, KeyRing, Settings], Awaitable[T]]) -> T:
    """Run a service function as the service would. Raises Failed and Misused with what it would have answered."""
    from unveil.app.accounts.service import UnknownAccount
    from unveil.app.db.session import async_engine, async_sessions
    from unveil.app.errors.problem import Problem

    use_state(state)
    settings = read_settings()
    ring = read_key_ring(settings)

    async def run() -> T:
        engine = async_engine(settings)
        try:
            async with async_sessions(engine)() as session:
                return await work(session, ring, settings)
        finally:
            await engine.dispose()

    try:
        with on_database():
            return asyncio.run(run())
    except UnknownAccount as problem:
        raise Misused(problem.detail.replace("GET /accounts", "`unveil accounts list`")) from None
    except Problem as problem:
        raise Failed(problem.detail) from None


# --- the key ring ---


@keys.command("new-ring")
def new_ring(file: Annotated[Path, typer.Argument(help="File to make, for UNVEIL_KEYRING_FILE")]) -> None:
    """Make a key ring: the master key that seals all secrets, and the pepper of the token hashes.

    Keep a copy of it apart from the database: whoever lacks it cannot open a single key.
    """
    from unveil.app.security.envelope import new_key_ring

    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as ring:
            ring.write(new_key_ring().dump())
    except FileExistsError:
        raise Misused(f"{file} exists, and what is sealed under it would be lost; choose another name") from None
    errors.print(f"wrote {file}")


@keys.command("rotate-master")
def rotate_master(
    state: State = None,
    patience: Annotated[
        float, typer.Option(min=0, max=86_400, help="Seconds to wait until every process has read the new ring")
    ] = 60.0,
) -> None:
    """Put all that is sealed under a new master key, while the service runs. An interrupted run is gone on with."""
    from unveil.app.db.session import sync_engine, sync_sessions
    from unveil.app.security.key_rotation import Unfinished, rotate

    use_state(state)
    settings = read_settings()
    if settings.keyring_file is None:
        raise Misused("there is no key ring to rotate: give --state DIR, or name its file in UNVEIL_KEYRING_FILE")
    read_key_ring(settings)
    engine = sync_engine(settings)
    try:
        with on_database():
            rotate(sync_sessions(engine), settings.keyring_file, errors.print, patience_s=patience)
    except Unfinished as error:
        raise Failed(str(error)) from None
    finally:
        engine.dispose()


@keys.command("add-master")
def add_master(file: Annotated[Path, typer.Argument(help="The key ring's file")]) -> None:
    """Add a master key to a ring, where processes get copies of it: hand them out, then `unveil keys rotate-master`."""
    from unveil.app.security.envelope import parse_key_ring
    from unveil.app.security.key_rotation import Unfinished, alone, write_ring

    try:
        with alone(file):
            ring = parse_key_ring(file.read_text())
            if len(ring.masters) > 1:
                found = f"{file} holds {len(ring.masters)} master keys"
                raise Misused(f"{found}: finish that with `unveil keys rotate-master`")
            write_ring(file, ring.with_new_master())
    except ValueError as error:
        raise Misused(f"{file} is no key ring: {error}") from None
    except Unfinished as error:
        raise Failed(str(error)) from None
    errors.print(f"master key {ring.current + 1} was added to {file}")


# --- retention ---


def retention(
    older_than: Annotated[str, typer.Option(help="Age since they ended: 30d, 12h")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and leave it")] = False,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Delete ended evaluations of that age, and what crashes left behind."""
    from unveil.app.db.session import one_session
    from unveil.app.ops.retention import expire

    age = _age(older_than)
    use_state(state)
    settings = read_settings()
    with on_database(), one_session(settings) as session:
        gone = expire(session, settings, age, dry_run=dry_run)
    if as_json:
        print_json({"dry_run": dry_run, **gone})
        return
    for what, count in gone.items():
        print(f"{'would delete' if dry_run else 'deleted'} {count} {what}")


def _age(text: str) -> timedelta:
    number, unit = text[:-1], {"d": timedelta(days=1), "h": timedelta(hours=1)}.get(text[-1:])
    try:
        if unit is not None and number.isdecimal():
            return int(number) * unit
    except (OverflowError, ValueError):  # longer than a timedelta, more digits than int() reads
        pass
    raise Misused(f"{text[:20]!r} is no age; write 30d or 12h")
