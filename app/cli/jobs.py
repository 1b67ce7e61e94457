"""`unveil jobs`: the active jobs of all accounts, on the service's database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from unveil.app.cli import references
from unveil.app.cli.admin import read_all, run_with_session
from unveil.app.cli.common import Json, State, print_items
from unveil.app.cli.groups import CommandGroup

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from unveil.app.jobs.schemas import JobOut
    from unveil.app.security.envelope import Keyring
    from unveil.app.settings import Settings

jobs = CommandGroup(help="List and cancel the queued and running jobs of all accounts.")


def register(app: typer.Typer) -> None:
    app.add_typer(jobs, name="jobs")


@jobs.command("list")
def list_jobs(state: State = None, as_json: Json = False) -> None:
    """List queued and running cells and key trainings."""
    rows = run_with_session(state, lambda session, *_: _read_active(session))
    print_items(
        as_json,
        [job.model_dump(mode="json") for job in rows],
        ("id", "account", "job", "status", "progress", "seconds", "worker"),
        [_to_row(job) for job in rows],
        wraps=("account", "job"),
    )


async def _read_active(session: AsyncSession) -> list[JobOut]:
    from unveil.app.jobs import service

    return await read_all(service.list_active, session)


def _to_row(job: JobOut) -> tuple[str, ...]:
    work = f"{job.attack} on {job.scheme}" if job.attack else f"training of a {job.scheme} key"
    return job.id, job.account, work, job.status, f"{job.progress:.0%}", f"{job.seconds_used:.0f}", job.worker or ""


@jobs.command("cancel")
def cancel_job(
    id: Annotated[str, typer.Argument(help="Id of the job or a prefix of it, or latest; see `unveil jobs list`")],
    state: State = None,
) -> None:
    """Cancel a job. A queued job ends at once, a running job within seconds."""
    from unveil.app.jobs import service

    async def cancel(session: AsyncSession, _: Keyring, __: Settings) -> JobOut:
        jobs = [(job.id, "") for job in await _read_active(session)]
        return await service.cancel(session, references.resolve(id, "job", jobs))

    print(run_with_session(state, cancel).status)
