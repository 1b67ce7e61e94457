"""The quotas of an account, and what an order keeps waiting while it is written."""

from __future__ import annotations

import pytest
from sqlalchemy import func, text
from sqlalchemy.exc import OperationalError

from tests.factories import make_account
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Account, AccountUsage, Key
from unveil.app.errors.problem import CostQuotaExceeded
from unveil.app.jobs.dispatch import enforce_quotas
from unveil.app.security.principal import Principal

pytestmark = pytest.mark.anyio

SET_LOCK_TIMEOUT = text("SET LOCAL lock_timeout = '200ms'")


async def test_keys_of_an_account_are_stored_while_it_orders_but_its_other_orders_wait(service, runtime):
    app_state, account = service.app_state, make_account(runtime.sessions)
    caller = Principal(account, "owner", frozenset({"evaluate"}))
    async with app_state.sessions() as ordering:
        await enforce_quotas(ordering, app_state, caller, 1, 0.0, "/schemes")
        with runtime.sessions.begin() as session:
            session.execute(SET_LOCK_TIMEOUT)
            session.add(Key(id="key_1", account_id=account, scheme="tanaka", params={}, status=Status.SUCCEEDED))
        async with app_state.sessions() as another:
            await another.execute(SET_LOCK_TIMEOUT)
            with pytest.raises(OperationalError, match="lock timeout"):
                await enforce_quotas(another, app_state, caller, 1, 0.0, "/schemes")


async def test_the_quota_counts_use_of_thirty_days_and_what_active_jobs_still_need(service, runtime):
    account = make_account(runtime.sessions)
    caller = Principal(account, "owner", frozenset({"evaluate"}))
    with runtime.sessions.begin() as session:
        session.get_one(Account, account).max_cost_core_hours = 10.0
        for days_ago, hours in ((0, 1.0), (29, 2.0), (30, 100.0)):
            day = func.current_date() - days_ago
            session.add(AccountUsage(account_id=account, day=day, core_seconds=hours * 3600))
        for id, status in (("key_1", Status.RUNNING), ("key_2", Status.SUCCEEDED)):
            session.add(
                Key(id=id, account_id=account, scheme="tn-gan", params={}, status=status, progress=0.5,
                    estimated_core_seconds=4 * 3600.0)
            )  # fmt: skip
    async with service.app_state.sessions() as session:  # 3 used, 2 reserved
        await enforce_quotas(session, service.app_state, caller, 1, 4.9 * 3600, "/schemes")
        with pytest.raises(CostQuotaExceeded) as refusal:
            await enforce_quotas(session, service.app_state, caller, 1, 5.1 * 3600, "/schemes")
    assert refusal.value.detail.startswith(
        "the request is estimated at 5.1 core hours and the account has 5 of 10 left: 3 used in 30 days, 2 reserved"
    )


async def test_an_account_without_a_quota_has_that_of_the_service(service, runtime):
    caller = Principal(make_account(runtime.sessions), "owner", frozenset({"evaluate"}))
    async with service.app_state.sessions() as session:
        await enforce_quotas(session, service.app_state, caller, 1, 999 * 3600, "/schemes")
        with pytest.raises(CostQuotaExceeded):
            await enforce_quotas(session, service.app_state, caller, 1, 1001 * 3600, "/schemes")


async def test_thirteen_days_of_itn_strong_are_refused_at_order_time_and_nothing_is_stored(service, client):
    assert (await client.patch("/accounts/owner", json={"max_cost_core_hours": 100})).status_code == 200
    body = {
        "schemes": [{"name": "pixelwise", "key_mode": "different"}],
        "attacks": [{"name": "itn-strong", "epochs": 100_000, "width": 64}], "dataset": "sample", "profile": "quick",
    }  # fmt: skip
    refused = await client.post("/evaluations", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "cost_quota_exceeded"), refused.text
    assert "ask an administrator for more: unveil accounts quota" in refused.json()["detail"]
    assert (await client.get("/evaluations")).json()["items"] == []
    estimate = (await client.post("/evaluations/estimate", json=body)).json()
    assert estimate["estimated_core_hours"] > estimate["quota"]["left"] == estimate["quota"]["limit"] == 100
    body["attacks"][0]["epochs"] = 1
    estimate = (await client.post("/evaluations/estimate", json=body)).json()
    assert (await client.get("/evaluations")).json()["items"] == []  # an estimate creates nothing
    ordered = (await client.post("/evaluations", json=body)).json()
    assert 0 < ordered["estimated_core_hours"] < 1
    assert ordered["estimated_core_hours"] == estimate["estimated_core_hours"]
    assert len(ordered["cells"]) == estimate["cells"] + estimate["not_applicable"]
    jobs = (await client.get("/jobs")).json()["items"]
    assert sum(job["estimated_core_hours"] for job in jobs) == pytest.approx(ordered["estimated_core_hours"], abs=1e-5)
    quota = (await client.post("/evaluations/estimate", json=body)).json()["quota"]
    assert quota["reserved"] == pytest.approx(ordered["estimated_core_hours"], abs=1e-5)
    assert quota["left"] == pytest.approx(100 - quota["reserved"])
    assert (await client.patch("/accounts/owner", json={"max_cost_core_hours": None})).json()[
        "max_cost_core_hours"
    ] is None
