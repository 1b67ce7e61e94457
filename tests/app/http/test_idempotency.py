"""A repeat gets the first answer, whatever happened between, and fifty at once make one thing."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import func, select, update

from tests.app.service import run_service
from unveil.app.db.tables import Evaluation, IdempotencyRecord, Key
from unveil.app.http import idempotency
from unveil.app.keys import service as keys

pytestmark = pytest.mark.anyio

ORDER = {"scheme": "tanaka"}
EVALUATION = {"schemes": [{"name": "tanaka"}], "attacks": [{"name": "none"}], "dataset": "sample", "profile": "smoke"}
KEYED = {"Idempotency-Key": "order-1"}


async def count(service, what=Key):
    async with service.app_state.sessions() as session:
        return await session.scalar(select(func.count()).select_from(what))


async def read_lock(service):
    async with service.app_state.sessions() as session:
        return await session.scalar(select(IdempotencyRecord.locked_until))


async def test_a_repeat_gets_the_same_status_body_and_headers(service, client):
    first = await client.post("/keys", json=ORDER, headers=KEYED)
    again = await client.post("/keys", json=ORDER, headers=KEYED)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    assert await count(service) == 1


async def test_another_body_or_another_address_is_a_mismatch(client):
    await client.post("/keys", json=ORDER, headers=KEYED)
    for path, body in (("/keys", {"scheme": "pixelwise"}), ("/accounts", {"name": "a", "scopes": ["read"]})):
        answer = await client.post(path, json=body, headers=KEYED)
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch")


async def test_without_the_header_each_request_makes_its_own(service, client):
    await client.post("/keys", json=ORDER)
    await client.post("/keys", json=ORDER)
    assert await count(service) == 2
    assert await count(service, IdempotencyRecord) == 0


async def test_the_keys_of_two_accounts_are_apart(service, client):
    first = await client.post("/keys", json=ORDER, headers=KEYED)
    async with service.client(await service.create_account("another")) as other:
        second = await other.post("/keys", json=ORDER, headers=KEYED)
    assert second.status_code == 201
    assert second.json()["id"] != first.json()["id"]


async def test_fifty_at_once_make_one_key(service, client):
    answers = await asyncio.gather(*(client.post("/keys", json=ORDER, headers=KEYED) for _ in range(50)))
    made = [answer for answer in answers if answer.status_code == 201]
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.json()["id"] for answer in made}) == 1
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} <= {"idempotency_running"}
    assert await count(service) == 1


async def test_a_refused_request_is_forgotten_and_may_be_mended(service, client):
    assert (await client.post("/keys", json={"scheme": "nope"}, headers=KEYED)).status_code == 422
    assert (await client.post("/keys", json=ORDER, headers=KEYED)).status_code == 201


async def test_a_crash_before_the_answer_leads_to_the_same_key(service, client):
    first = await client.post("/keys", json=ORDER, headers=KEYED)
    await simulate_crash(service, locked=False)
    again = await client.post("/keys", json=ORDER, headers=KEYED)
    assert again.status_code == 201
    assert again.json()["id"] == first.json()["id"]
    assert await count(service) == 1


async def test_while_the_first_may_still_run_a_repeat_waits(service, client):
    await client.post("/keys", json=ORDER, headers=KEYED)
    await simulate_crash(service, locked=True)
    answer = await client.post("/keys", json=ORDER, headers=KEYED)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_running")
    assert answer.headers["retry-after"] == "1"


async def test_work_that_takes_longer_than_the_lock_keeps_it(service, client, monkeypatch):
    monkeypatch.setattr(idempotency, "_LOCK_RENEW_INTERVAL_S", 0.01)
    at_work, may_end, create = asyncio.Event(), asyncio.Event(), keys.create

    async def slowly(*given):
        at_work.set()
        await may_end.wait()
        return await create(*given)

    monkeypatch.setattr(keys, "create", slowly)
    first = asyncio.create_task(client.post("/keys", json=ORDER, headers=KEYED))
    await at_work.wait()
    async with asyncio.timeout(60):
        locked_until = await read_lock(service)
        while await read_lock(service) == locked_until:  # noqa: ASYNC110 - the database sends no event
            await asyncio.sleep(0.01)
    assert (await client.post("/keys", json=ORDER, headers=KEYED)).status_code == 409
    may_end.set()
    assert (await first).status_code == 201
    assert await count(service) == 1


async def test_after_a_day_the_key_is_new_again(service, client):
    first = await client.post("/keys", json=ORDER, headers=KEYED)
    async with service.app_state.sessions() as session, session.begin():
        await session.execute(
            update(IdempotencyRecord).values(created_at=func.clock_timestamp() - func.make_interval(0, 0, 0, 2))
        )
    second = await client.post("/keys", json={"scheme": "pixelwise"}, headers=KEYED)
    assert second.status_code == 201
    assert second.json()["id"] != first.json()["id"]


@pytest.mark.parametrize("key", ["", "a b", "x" * 201])
async def test_a_key_that_is_no_key(client, key):
    answer = await client.post("/keys", json=ORDER, headers={"Idempotency-Key": key})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/header/Idempotency-Key"


async def simulate_crash(service, *, locked):
    """The row as a process leaves it that dies between its work and its answer."""
    until = func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, 60 if locked else -1)
    async with service.app_state.sessions() as session, session.begin():
        await session.execute(
            update(IdempotencyRecord).values(status=None, body=None, headers=None, locked_until=until)
        )


async def test_many_refusals_at_once_hold_nobody_up(settings):
    """More than there are connections: each of them holds the account's lock, and needs another to forget its key."""
    async with run_service(
        settings.model_copy(update={"max_active_jobs": 8})
    ) as service:  # one fits, a second does not
        async with service.client(await service.create_account()) as client, asyncio.timeout(120):
            assert (await client.post("/evaluations", json=EVALUATION)).status_code == 202
            orders = [
                client.post("/evaluations", json=EVALUATION, headers={"Idempotency-Key": f"order-{i}"})
                for i in range(30)
            ]
            answers = await asyncio.gather(*orders)
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(429, "queue_full")}
        assert await count(service, IdempotencyRecord) == 0


async def test_a_retry_waits_for_a_first_request_that_was_presumed_dead(service, client):
    assert (await client.post("/evaluations", json=EVALUATION, headers=KEYED)).status_code == 202
    async with (
        service.app_state.sessions() as session
    ):  # as if the first had written its evaluation, and not yet its answer
        past = func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 1)
        await session.execute(update(IdempotencyRecord).values(status=None, body=None, locked_until=past))
        await session.commit()
    answer = await client.post("/evaluations", json=EVALUATION, headers=KEYED)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_running")
    assert await count(service, Evaluation) == 1
