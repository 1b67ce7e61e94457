"""GET /jobs, POST /jobs/{id}/cancel: the active jobs of all accounts, for administrators, as in `unveil jobs`."""

from __future__ import annotations

from fastapi import APIRouter

from unveil.app.dependencies import Session
from unveil.app.errors.problem import JobEnded, UnknownJob
from unveil.app.http.authentication import AdminPrincipal, AuthenticatedRoute
from unveil.app.http.pagination import JobPaging, Page
from unveil.app.http.problems import problems
from unveil.app.jobs import service
from unveil.app.jobs.schemas import JobOut

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=AuthenticatedRoute)


@router.get("")
async def list_jobs(_: AdminPrincipal, session: Session, paging: JobPaging) -> Page[JobOut]:
    """The queued and running jobs of every account: trainings of keys, then cells, each newest first."""
    return await service.list_active(session, paging)


@router.post("/{id}/cancel", status_code=202, responses=problems(UnknownJob, JobEnded))
async def cancel_job(id: str, _: AdminPrincipal, session: Session) -> JobOut:
    """Cancel a job of any account: a queued job ends at once, a running job within seconds.

    Repeating the request gives the same answer; 409 if the job has succeeded or failed.
    """
    return await service.cancel(session, id)
