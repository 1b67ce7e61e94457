"""Jobs of all accounts: list and cancel them; revoking an account cancels its own."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Evaluation, Key
from unveil.app.errors.problem import Unauthenticated
from unveil.app.jobs.dispatch import enforce_quotas
from unveil.app.security.principal import Principal

pytestmark = pytest.mark.anyio

ORDER = {
    "name": "audit", "dataset": "sample", "profile": "smoke",
    "schemes": [{"name": "tanaka"}, {"name": "tn-gan"}], "attacks": [{"name": "none"}, {"name": "itn"}],
}  # fmt: skip
KEY = {"scheme": "tn-gan", "params": {"profile": "smoke", "dataset": "sample"}}


@pytest.fixture
def service(service):
    service.worker.paused = True
    return service


async def order_everything(client) -> str:
    """An evaluation that trains a key, and a key of its own: the evaluation's id."""
    answer = await client.post("/evaluations", json=ORDER)
    assert answer.status_code == 202, answer.text
    assert (await client.post("/keys", json=KEY)).status_code == 202
    return answer.json()["id"]


async def statuses(service) -> dict[str, list[str]]:
    async with service.app_state.sessions() as session:
        return {
            table.__tablename__: list(await session.scalars(select(table.status).order_by(table.id)))
            for table in (Evaluation, Cell, Key)
        }


async def start(service, table, id: str) -> None:
    async with service.app_state.sessions() as session:
        await session.execute(update(table).where(table.id == id).values(status=Status.RUNNING, lease_owner="host/1/a"))
        await session.commit()


async def test_an_administrator_lists_the_active_jobs_of_every_account(service, client):
    async with service.client(await service.create_account("team")) as team:
        evaluation_id = await order_everything(team)
        cells = (await team.get(f"/evaluations/{evaluation_id}")).json()["cells"]
    queued = [cell for cell in cells if cell["status"] == "queued"]
    jobs = (await client.get("/jobs")).json()["items"]
    assert [job["kind"] for job in jobs] == ["key"] * 2 + ["cell"] * len(queued)
    assert {job["account"] for job in jobs} == {"team"}
    assert {job["evaluation_id"] for job in jobs} == {evaluation_id, None}
    assert {(job["id"], job["scheme"], job["attack"], job["status"]) for job in jobs[2:]} == {
        (cell["id"], cell["scheme"]["name"], cell["attack"]["name"], "queued") for cell in queued
    }
    first = (await client.get("/jobs", params={"limit": 4})).json()
    rest = (await client.get("/jobs", params={"cursor": first["next"]})).json()
    assert (first["items"] + rest["items"], rest["next"]) == (jobs, None)


async def test_an_administrator_cancels_any_job_and_the_evaluation_goes_on(service, client):
    async with service.client(await service.create_account("team")) as team:
        evaluation_id = await order_everything(team)
        jobs = (await client.get("/jobs")).json()["items"]
        queued, running = jobs[-1]["id"], jobs[-2]["id"]
        await start(service, Cell, running)
        for id, status in ((queued, "cancelled"), (running, "cancelling"), (jobs[0]["id"], "cancelled")):
            for _ in range(2):  # a client that lost the first answer asks again
                answer = await client.post(f"/jobs/{id}/cancel")
                assert (answer.status_code, answer.json()["status"]) == (202, status), answer.text
        cells = {
            cell["id"]: cell["status"] for cell in (await team.get(f"/evaluations/{evaluation_id}")).json()["cells"]
        }
        assert (cells[queued], cells[running]) == ("cancelled", "cancelling")
        events, *_ = (await team.get(f"/evaluations/{evaluation_id}")).headers["etag"].strip('W/"').split("-")
        assert int(events) > 2


async def test_a_refused_cancellation_states_the_reason(service, client):
    await order_everything(client)
    id = (await client.get("/jobs")).json()["items"][-1]["id"]
    async with service.app_state.sessions() as session:
        await session.execute(update(Cell).values(status=Status.SUCCEEDED))
        await session.commit()
    drawn = (await client.post("/keys", json={"scheme": "tanaka"})).json()["id"]
    for asked, status, code in ((id, 409, "job_ended"), ("cell_" + "0" * 32, 404, "unknown_job"),
                                (drawn, 404, "unknown_job"), ("nothing", 404, "unknown_job")):  # fmt: skip
        answer = await client.post(f"/jobs/{asked}/cancel")
        assert (answer.status_code, answer.json()["code"]) == (status, code), asked


async def test_only_administrators_see_jobs(service):
    async with service.client(await service.create_account("team", ["evaluate", "read", "keys"])) as team:
        await order_everything(team)
        assert (await team.get("/jobs")).status_code == 403
        assert (await team.post(f"/jobs/cell_{'0' * 32}/cancel")).status_code == 403


async def test_revoking_an_account_cancels_its_jobs_and_no_other(service, client):
    await order_everything(client)
    async with service.client(await service.create_account("leaver")) as leaver:
        await order_everything(leaver)
        jobs = (await client.get("/jobs")).json()["items"]
        running = next(job for job in jobs if (job["account"], job["kind"]) == ("leaver", "cell"))
        await start(service, Cell, running["id"])
    before = {job["id"] for job in (await client.get("/jobs")).json()["items"] if job["account"] == "owner"}
    assert (await client.delete("/accounts/leaver")).status_code == 204
    left = (await client.get("/jobs")).json()["items"]
    assert {job["id"] for job in left if job["account"] == "owner"} == before
    assert [(job["id"], job["status"]) for job in left if job["account"] != "owner"] == [(running["id"], "cancelling")]


async def test_an_order_that_races_with_the_revocation_leaves_no_job(service, client):
    """The order has passed authentication; the revocation commits first."""
    await service.create_account("leaver")
    async with service.app_state.sessions() as session:
        assert (await client.delete("/accounts/leaver")).status_code == 204
        accounts = {item["name"]: item["id"] for item in (await client.get("/accounts")).json()["items"]}
        principal = Principal(accounts["leaver"], "leaver", frozenset({"evaluate"}))
        with pytest.raises(Unauthenticated, match="revoked"):
            await enforce_quotas(session, service.app_state, principal, 1, 0.0, "/schemes")
