"""Keys are made, given, listed, exported and destroyed; their secrets stay where they belong."""

from __future__ import annotations

import asyncio
import base64

import pytest
from sqlalchemy import select, text, update

from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Key
from unveil.app.keys import queries

pytestmark = pytest.mark.anyio

_COUNT_LOCK_WAITS = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)
TANAKA = {"permutation": [*range(95, -1, -1)], "reversed": [*[0, 1] * 48]}


def a_map(width=4, height=3, orders=0):
    return {
        "width": width,
        "height": height,
        "reversed": base64.b64encode(bytes(width * height * 3)).decode(),
        "orders": base64.b64encode(bytes([orders]) * (width * height)).decode(),
    }


def problem(answer, status, code):
    assert answer.status_code == status, answer.text
    assert answer.json()["code"] == code, answer.text
    return answer.json()


async def create_key(client, **order):
    answer = await client.post("/keys", json={"scheme": "tanaka", **order})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_given_material_is_kept_and_exported_as_it_was_given(client):
    key = await create_key(client, material=TANAKA)
    assert key["status"] == "ready"
    assert key["uses"] == 0
    assert key["key_space_bits"] == pytest.approx(594.277, abs=1e-3)
    assert key["effective_bits"] == 256
    exported = (await client.get(f"/keys/{key['id']}/material")).json()
    assert exported["material"] == TANAKA
    assert (await client.get(f"/keys/{key['id']}/material")).headers["cache-control"] == "no-store"


async def test_a_drawn_key_exports_as_material_that_makes_the_same_key(client):
    key = await create_key(client)
    material = (await client.get(f"/keys/{key['id']}/material")).json()["material"]
    copy = await create_key(client, material=material)
    assert (await client.get(f"/keys/{copy['id']}/material")).json()["material"] == material


async def test_a_pixelwise_map_has_its_own_size_and_key_space(client):
    key = await create_key(client, scheme="pixelwise", material=a_map())
    assert (key["width"], key["height"]) == (4, 3)
    assert key["key_space_bits"] == pytest.approx(12 * 5.58496, abs=1e-3)
    assert key["effective_bits"] == pytest.approx(key["key_space_bits"])
    problem(await client.get(f"/keys/{key['id']}/material?width=5&height=5"), 422, "size_mismatch")


async def test_the_key_space_is_for_96x96_unless_another_size_is_asked_for(client):
    key = await create_key(client, scheme="pixelwise")
    assert key["key_space_bits"] == pytest.approx(51471, abs=1)
    asked = (await client.get(f"/keys/{key['id']}?width=10&height=10")).json()
    assert asked["key_space_bits"] == pytest.approx(558.5, abs=0.1)
    problem(await client.get(f"/keys/{key['id']}?width=0"), 422, "invalid_request")
    problem(await client.get(f"/keys/{key['id']}/material?width=65536&height=65536"), 422, "invalid_request")


@pytest.mark.parametrize(
    ("order", "pointer"),
    [
        ({"scheme": "nope"}, "/scheme"),
        ({"params": {"block": 5}}, "/params/block"),
        ({"params": []}, "/params"),
        ({"material": {**TANAKA, "permutation": [0] * 96}}, "/material/permutation"),
        ({"material": {**TANAKA, "reversed": [2] * 96}}, "/material/reversed"),
        ({"material": {**TANAKA, "extra": 1}}, "/material/extra"),
        ({"material": {}}, "/material/permutation"),
        ({"material": "x"}, "/material"),
        ({"scheme": "pixelwise", "material": a_map(orders=6)}, "/material/orders"),
        ({"scheme": "pixelwise", "material": {**a_map(), "width": 5}}, "/material/reversed"),
        ({"scheme": "pixelwise", "material": {**a_map(), "orders": "*"}}, "/material/orders"),
        ({"scheme": "pixelwise", "material": {**a_map(), "height": True}}, "/material/height"),
        ({"secret": "x"}, "/secret"),
    ],
)
async def test_a_bad_order_names_its_field_and_stores_nothing(client, order, pointer):
    body = problem(
        await client.post("/keys", json={"scheme": "tanaka", **order}), 422,
        "unknown_scheme" if order.get("scheme") == "nope" else "invalid_request",
    )  # fmt: skip
    assert pointer in [error["pointer"] for error in body["errors"]]
    assert (await client.get("/keys")).json()["items"] == []


async def test_no_answer_but_the_export_holds_the_secret(service, client):
    key = await create_key(client, material=TANAKA)
    for path in ("/keys", f"/keys/{key['id']}"):
        text = (await client.get(path)).text
        assert "permutation" not in text
        assert "encrypted_secret" not in text
    async with service.app_state.sessions() as session:
        sealed = await session.scalar(select(Key.encrypted_secret))
    assert b"permutation" not in sealed


async def test_the_export_needs_its_own_scope(service, client):
    token = await service.create_account("keeper", ["keys"])
    async with service.client(token) as keeper:
        key = (await keeper.post("/keys", json={"scheme": "tanaka"})).json()
        problem(await keeper.get(f"/keys/{key['id']}/material"), 403, "forbidden")


async def test_a_destroyed_key_is_410_on_every_route_and_its_secret_is_gone(service, client):
    key = await create_key(client)
    assert (await client.delete(f"/keys/{key['id']}")).status_code == 204
    for method, path in (("GET", ""), ("GET", "/material"), ("DELETE", ""), ("POST", "/cancel")):
        problem(await client.request(method, f"/keys/{key['id']}{path}"), 410, "key_destroyed")
    assert (await client.get("/keys")).json()["items"] == []
    async with service.app_state.sessions() as session:
        row = (await session.scalars(select(Key))).one()
    assert row.encrypted_secret is None
    assert row.destroyed_at is not None


async def test_what_belongs_to_another_account_is_404_on_every_route_and_method(service, client):
    key = await create_key(client)
    async with service.client(await service.create_account("stranger")) as stranger:
        for method, path in (("GET", ""), ("GET", "/material"), ("DELETE", ""), ("POST", "/cancel")):
            problem(await stranger.request(method, f"/keys/{key['id']}{path}"), 404, "unknown_key")
        assert (await stranger.get("/keys")).json()["items"] == []
    assert (await client.get(f"/keys/{key['id']}")).status_code == 200


@pytest.mark.parametrize(
    ("status", "shown", "after"),
    [(Status.QUEUED, "training", "cancelled"), (Status.RUNNING, "training", "cancelling")],
)
async def test_a_key_in_training_can_be_cancelled_and_not_used_or_destroyed(service, client, status, shown, after):
    key = await create_key(client)
    async with service.app_state.sessions() as session, session.begin():
        await session.execute(update(Key).values(status=status, progress=0.25))
    now = (await client.get(f"/keys/{key['id']}")).json()
    assert (now["status"], now["progress"]) == (shown, 0.25)
    problem(await client.get(f"/keys/{key['id']}/material"), 409, "key_not_ready")
    problem(await client.delete(f"/keys/{key['id']}"), 409, "key_busy")
    cancelled = await client.post(now["links"]["cancel"])
    assert (cancelled.status_code, cancelled.json()["status"]) == (202, after)


async def test_a_key_that_an_unfinished_evaluation_uses_is_not_destroyed(service, client):
    service.worker.paused = True
    key = await create_key(client)
    body = {
        "schemes": [{"name": "tanaka", "key_id": key["id"]}], "attacks": [{"name": "none"}],
        "dataset": "sample", "profile": "smoke",
    }  # fmt: skip
    evaluation = (await client.post("/evaluations", json=body)).json()
    for status in (Status.RUNNING, Status.QUEUED):
        async with service.app_state.sessions() as session, session.begin():
            await session.execute(update(Cell).values(status=status))
        busy = problem(await client.delete(f"/keys/{key['id']}"), 409, "key_busy")
        assert f"evaluation {evaluation['id']} uses" in busy["detail"]
        assert (await client.get(f"/keys/{key['id']}/material")).status_code == 200
    assert (await client.post(f"/evaluations/{evaluation['id']}/cancel")).status_code == 202
    assert (await client.delete(f"/keys/{key['id']}")).status_code == 204


async def test_the_destruction_of_a_key_waits_for_an_order_that_names_it(service, client):
    key = await create_key(client)
    account = (await client.get("/accounts")).json()["items"][0]["id"]
    async with service.app_state.sessions() as ordering:
        assert await queries.get_for_share(ordering, account, key["id"]) is not None
        destruction = asyncio.create_task(client.delete(f"/keys/{key['id']}"))
        async with asyncio.timeout(60), service.app_state.sessions() as session:
            while await session.scalar(_COUNT_LOCK_WAITS) == 0:
                assert not destruction.done()
                await asyncio.sleep(0.01)
                await session.rollback()
        await ordering.rollback()
    assert (await destruction).status_code == 204


async def test_there_is_nothing_to_cancel_about_a_ready_key(client):
    key = await create_key(client)
    problem(await client.post(f"/keys/{key['id']}/cancel"), 409, "not_training")


async def test_a_key_of_a_scheme_that_only_another_version_knows_is_shown_and_destroyed_but_not_exported(
    service, client
):
    key = await create_key(client)
    async with service.app_state.sessions() as session, session.begin():
        await session.execute(update(Key).values(scheme="later-scheme"))
    shown = (await client.get(f"/keys/{key['id']}")).json()
    assert (shown["scheme"], shown["key_space_bits"]) == ("later-scheme", None)
    said = problem(await client.get(f"/keys/{key['id']}/material"), 422, "unknown_scheme")
    assert "unknown scheme 'later-scheme'" in said["detail"]
    assert (await client.delete(f"/keys/{key['id']}")).status_code == 204
