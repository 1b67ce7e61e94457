"""Webhooks: registered, signed, sent again after failures and crashes, and ended with what they belong to."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, update

from tests.app.webhooks.receiver import receive
from tests.factories import make_evaluation
from unveil.app.accounts import service as accounts
from unveil.app.db.tables import Cell, Evaluation, Webhook, WebhookDelivery
from unveil.app.jobs import event_log
from unveil.app.webhooks import queries, sender

pytestmark = pytest.mark.anyio
PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "webhooks.md"


@pytest.fixture
def allowed_networks():
    return "127.0.0.1/32"


@pytest.fixture
def settings(settings, allowed_networks, monkeypatch):
    """The service sends when a test says so."""
    monkeypatch.setattr(sender, "_POLL_INTERVAL_S", 3600.0)
    return settings.model_copy(update={"webhook_allowed_networks": allowed_networks})


@pytest.fixture
def receiver():
    with receive() as received:
        yield received


@pytest.fixture
async def send(service):
    """Make one attempt at each delivery that is due."""
    async with httpx.AsyncClient(trust_env=False) as http:

        async def send() -> int:
            return await sender.send_due(service.app_state, http)

        yield send


async def create(client, url):
    answer = await client.post("/webhooks", json={"url": url})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def account_id(client, name="owner"):
    return next(item["id"] for item in (await client.get("/accounts")).json()["items"] if item["name"] == name)


async def finish_evaluation(client, runtime, account=None):
    """An evaluation of the account that has just ended; its id."""
    id, _ = make_evaluation(runtime.sessions, account or await account_id(client))
    with runtime.sessions.begin() as session:
        session.execute(update(Cell).where(Cell.evaluation_id == id).values(status="succeeded"))
        event_log.finish_if_complete(session, event_log.lock_evaluation(session, id))
    return id


async def deliveries(client, webhook):
    return (await client.get(f"/webhooks/{webhook['id']}/deliveries")).json()["items"]


def make_due(runtime):
    """As if the pause after the last attempt, or the lease of a dead process, were over."""
    with runtime.sessions.begin() as session:
        pending = update(WebhookDelivery).where(WebhookDelivery.next_attempt_at.is_not(None))
        session.execute(
            pending.values(next_attempt_at=func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, 1))
        )


async def test_the_end_of_an_evaluation_is_sent_with_a_signature_that_the_documented_function_verifies(
    client, runtime, receiver, send
):
    webhook = await create(client, receiver.url)
    evaluation = await finish_evaluation(client, runtime)
    assert await send() == 1
    assert await send() == 0
    ((path, headers, body),) = receiver.requests
    assert path == "/hook"
    event = json.loads(body)
    assert event["type"] == "evaluation.finished"
    assert {name: event["data"][name] for name in ("id", "status")} == {"id": evaluation, "status": "succeeded"}
    documented: dict[str, Any] = {}
    exec(re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1], documented)
    verify = documented["verify"]
    assert verify(webhook["secret"], headers, body)
    assert not verify(webhook["secret"], headers, body + b" ")
    assert not verify("whsec_c2VjcmV0", headers, body)
    assert not verify(webhook["secret"], {**headers, "webhook-timestamp": "1764560000"}, body)
    (delivery,) = await deliveries(client, webhook)
    assert (delivery["id"], delivery["evaluation"]) == (headers["webhook-id"], evaluation)
    assert (delivery["status"], delivery["attempts"], delivery["response_status"]) == ("delivered", 1, 200)
    assert delivery["next_attempt_at"] is None


async def test_a_failed_attempt_is_repeated_after_growing_pauses_until_the_delivery_fails(
    client, runtime, receiver, send
):
    webhook = await create(client, receiver.url)
    await finish_evaluation(client, runtime)
    receiver.statuses = [500, 302, *[503] * 6]
    pauses = []
    for _ in range(len(sender.RETRY_DELAYS_S) + 1):
        assert await send() == 1
        assert await send() == 0, "not before its pause is over"
        (delivery,) = await deliveries(client, webhook)
        with runtime.sessions() as session:
            pause = select(WebhookDelivery.next_attempt_at - func.clock_timestamp())
            pauses.append(session.scalar(pause))
        make_due(runtime)
    assert len({headers["webhook-id"] for _, headers, _ in receiver.requests}) == 1
    assert {path for path, _, _ in receiver.requests} == {"/hook"}, "a redirect is not followed"
    assert pauses[-1] is None
    assert pauses[:-1] == sorted(pauses[:-1])
    assert (delivery["status"], delivery["attempts"], delivery["error"]) == ("failed", 8, "HTTP status 503")
    assert await send() == 0


async def test_a_delivery_outlives_the_process_that_was_sending_it(client, service, runtime, receiver, send):
    webhook = await create(client, receiver.url)
    await finish_evaluation(client, runtime)
    async with service.app_state.sessions.begin() as session:
        (claimed,) = await queries.claim_due(session, limit=10, limit_per_account=10, lease_s=60)
    assert await send() == 0, "another process holds the lease"
    make_due(runtime)
    assert await send() == 1
    async with service.app_state.sessions.begin() as session:  # the first process was only slow
        late = {"status": "failed", "response_status": None, "error": "late", "retry_in_s": None}
        await queries.end_attempt(session, claimed.id, claimed.attempts, **late)
    (delivery,) = await deliveries(client, webhook)
    assert (delivery["status"], delivery["attempts"]) == ("delivered", 2)


async def test_two_processes_do_not_claim_the_same_delivery(client, service, runtime, receiver):
    await create(client, receiver.url)
    await finish_evaluation(client, runtime)
    limits = {"limit": 10, "limit_per_account": 10, "lease_s": 60}
    async with service.app_state.sessions() as one, service.app_state.sessions() as other:
        assert len(await queries.claim_due(one, **limits)) == 1
        assert await queries.claim_due(other, **limits) == []


async def test_the_receivers_of_one_account_do_not_delay_those_of_another(client, service, runtime, receiver):
    await service.create_account("other")
    other = await account_id(client, "other")
    await create(client, receiver.url)
    with runtime.sessions.begin() as session:
        values = {"url": "u", "events": ["evaluation.finished"], "encrypted_secret": b""}
        session.add(Webhook(id="webhook_b", account_id=other, **values))
    for _ in range(3):
        await finish_evaluation(client, runtime)
    theirs = await finish_evaluation(client, runtime, other)
    async with service.app_state.sessions() as session:
        claimed = await queries.claim_due(session, limit=10, limit_per_account=2, lease_s=60)
    assert len(claimed) == 3
    assert theirs in {delivery.evaluation_id for delivery in claimed}


async def test_a_receiver_that_does_not_answer_is_given_up(client, runtime, receiver, send, monkeypatch):
    monkeypatch.setattr(sender, "_TIMEOUT_S", 0.3)
    receiver.release.clear()
    webhook = await create(client, receiver.url)
    await finish_evaluation(client, runtime)
    await send()
    (delivery,) = await deliveries(client, webhook)
    assert delivery["status"] == "pending"
    assert delivery["error"].startswith("no response within")


@pytest.mark.parametrize("allowed_networks", [""])
async def test_a_name_that_leads_to_a_private_address_is_not_connected_to(client, runtime, receiver, send):
    webhook = await create(client, f"https://localhost:{receiver.port}/")
    await finish_evaluation(client, runtime)
    await send()
    (delivery,) = await deliveries(client, webhook)
    assert delivery["error"] == "localhost is not a public address, and the operator does not allow its network"
    assert receiver.requests == []


async def test_the_service_sends_by_itself(client, service, runtime, receiver, monkeypatch):
    monkeypatch.setattr(sender, "_POLL_INTERVAL_S", 0.01)
    webhook = await create(client, receiver.url)
    await finish_evaluation(client, runtime)
    async with sender.send_deliveries(service.app_state):
        while (await deliveries(client, webhook))[0]["status"] == "pending":  # noqa: ASYNC110 - in the database
            await asyncio.sleep(0.05)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("allowed_networks", [""])
@pytest.mark.parametrize(
    "url", ["http://receiver.test/", "https://10.0.0.1/", "https://[::1]/", "https://me@receiver.test/", "ftp://a/", ""]
)
async def test_an_unusable_url_is_refused_at_once(client, url):
    answer = await client.post("/webhooks", json={"url": url})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/url"]


async def test_webhooks_are_listed_without_their_secrets_and_deleted_with_their_deliveries(
    client, runtime, receiver, send
):
    webhook = await create(client, receiver.url)
    await finish_evaluation(client, runtime)
    listed = await client.get("/webhooks")
    assert [item["id"] for item in listed.json()["items"]] == [webhook["id"]]
    assert webhook["secret"] not in listed.text
    assert (await client.get(f"/webhooks/{webhook['id']}")).json()["url"] == receiver.url
    assert (await client.delete(f"/webhooks/{webhook['id']}")).status_code == 204
    assert (await client.delete(f"/webhooks/{webhook['id']}")).status_code == 404
    assert await send() == 0
    with runtime.sessions() as session:
        assert session.scalar(select(func.count()).select_from(WebhookDelivery)) == 0


async def test_a_deleted_evaluation_or_a_revoked_account_ends_its_deliveries(client, service, runtime, receiver, send):
    await create(client, receiver.url)
    evaluation = await finish_evaluation(client, runtime)
    assert (await client.delete(f"/evaluations/{evaluation}")).status_code == 204
    assert await send() == 0
    id = await account_id(client)
    await finish_evaluation(client, runtime)
    unfinished, _ = make_evaluation(runtime.sessions, id)
    async with service.app_state.sessions() as session:
        await accounts.revoke(session, "owner")
    with runtime.sessions() as session:
        assert session.get_one(Evaluation, unfinished).status == "cancelled"
    assert await send() == 0
    assert receiver.requests == []


async def test_webhooks_need_the_scope_to_evaluate_and_a_retry_creates_one(client, service, receiver):
    async with service.client(await service.create_account("reader", ["read"])) as reader:
        assert (await reader.get("/webhooks")).json() == {"items": []}
        assert (await reader.post("/webhooks", json={"url": receiver.url})).status_code == 403
    once = {"json": {"url": receiver.url}, "headers": {"Idempotency-Key": "k"}}
    first, again = [(await client.post("/webhooks", **once)).json() for _ in range(2)]
    assert first == again


async def test_an_account_has_a_limited_number_of_webhooks(client, receiver):
    for _ in range(20):
        await create(client, receiver.url)
    answer = await client.post("/webhooks", json={"url": receiver.url})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
