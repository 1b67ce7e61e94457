"""Administration of jobs: list what is active in all accounts, and cancel one of it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.db.ids import is_id
from unveil.app.db.job_states import ACTIVE, Status
from unveil.app.errors.problem import JobEnded, UnknownJob
from unveil.app.http.pagination import Page, PageRequest, build_page
from unveil.app.jobs import cancellation, queries
from unveil.app.jobs.schemas import JobOut


async def list_active(session: AsyncSession, paging: PageRequest) -> Page[JobOut]:
    return build_page(
        await queries.list_active(session, paging), paging, JobOut.model_validate, lambda row: str(row.id)
    )


async def cancel(session: AsyncSession, id: str) -> JobOut:
    """A queued job ends now, a running one is asked to stop; asking again is fine. Commits.

    Raises UnknownJob, JobEnded.
    """
    row = await _get(session, id)
    if row.status not in ACTIVE | {Status.CANCELLED}:
        raise JobEnded(f"{id} has already {row.status}; there is nothing to cancel")
    await session.run_sync(cancellation.cancel_job, id, row.evaluation_id)
    await session.commit()
    return JobOut.model_validate(await _get(session, id))


async def _get(session: AsyncSession, id: str) -> Row[Any]:
    row = await queries.get(session, id) if is_id(id) else None
    if row is None:
        raise UnknownJob(f"there is no job {id!r}; list the active ones with GET /jobs")
    return row
