"""Keys that are trained: ordered, followed, used, cancelled and destroyed."""

from __future__ import annotations

import asyncio
import base64

import pytest
from sqlalchemy import select, update

from tests.trained import NAME, register_scheme
from tests.worker.sample_images import noise
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Key
from unveil.models.core.images import to_png
from unveil.worker import key_loading

pytestmark = pytest.mark.anyio

PARAMS = {"profile": "smoke", "dataset": "sample"}
IMAGE_FILES = [("images", ("a.png", to_png(noise(8, 8)), "image/png"))]


@pytest.fixture(autouse=True)
def scheme(monkeypatch):
    register_scheme(monkeypatch)


def problem(answer, status, code):
    assert answer.status_code == status, answer.text
    assert answer.json()["code"] == code, answer.text
    return answer.json()


async def order_key(client, **params):
    answer = await client.post("/keys", json={"scheme": NAME, "params": {**PARAMS, **params}})
    assert answer.status_code == 202, answer.text
    return answer.json()


async def train_key(service, client, **params):
    key = await order_key(client, **params)
    await asyncio.to_thread(service.worker.wait)
    return (await client.get(key["links"]["self"])).json()


async def encrypt(client, key_id):
    return await client.post("/encrypt", files=IMAGE_FILES, data={"key_id": key_id})


async def test_an_order_without_a_seed_names_none(service, client):
    service.worker.paused = True
    order = (await client.post("/keys", json={"scheme": NAME, "params": PARAMS})).json()
    assert order["training"]["seed"] is None


async def test_a_key_is_ordered_trained_used_and_destroyed(service, client):
    service.worker.paused = True
    answer = await client.post("/keys", json={"scheme": NAME, "params": {**PARAMS, "seed": 3}})
    assert answer.status_code == 202
    order = answer.json()
    assert answer.headers["Location"] == order["links"]["self"] == f"/keys/{order['id']}"
    assert answer.headers["Retry-After"] == "2"
    assert (order["status"], order["progress"], order["params"]) == ("training", 0.0, {"epochs": 2})
    assert order["training"] == {"profile": "smoke", "dataset": "sample", "seed": 3}
    assert order["links"]["cancel"] == f"/keys/{order['id']}/cancel"
    told = problem(await encrypt(client, order["id"]), 409, "key_not_ready")
    assert told["detail"] == f"{order['id']} is training; wait until it is ready"

    service.worker.paused = False
    await asyncio.to_thread(service.worker.wait)
    answer = await client.get(f"/keys/{order['id']}")
    key = answer.json()
    assert "Retry-After" not in answer.headers
    unchanged = await client.get(f"/keys/{order['id']}", headers={"If-None-Match": answer.headers["ETag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert (key["status"], key["provenance"]) == ("ready", {"data": "sample", "loss": None})
    assert "cancel" not in key["links"]

    answer = await encrypt(client, key["id"])
    assert answer.status_code == 200, answer.text
    entry = answer.json()["images"][0]
    assert entry["key_id"] == key["id"]
    assert base64.b64decode(entry["data"]) != IMAGE_FILES[0][1][1]
    assert (await client.get(f"/keys/{key['id']}")).json()["uses"] == 1
    again = await client.post("/decrypt", files=IMAGE_FILES, data={"key_id": key["id"]})
    assert NAME in problem(again, 422, "not_invertible")["detail"]
    problem(await client.get(f"/keys/{key['id']}/material"), 409, "not_exportable")

    assert (await client.delete(f"/keys/{key['id']}")).status_code == 204
    problem(await encrypt(client, key["id"]), 410, "key_destroyed")
    assert list(service.app_state.blobs.list_folder("keys")) == []
    async with service.app_state.sessions() as session:
        row = (await session.scalars(select(Key))).one()
    assert (row.wrapped_key, row.weights_blob) == (None, None)


async def test_weights_are_read_once_and_stop_working_when_their_key_is_destroyed(service, client, monkeypatch):
    key = await train_key(service, client)
    assert (await encrypt(client, key["id"])).status_code == 200
    monkeypatch.setattr(key_loading, "decrypt_secret", lambda *_: pytest.fail("they were read again"))
    assert (await encrypt(client, key["id"])).status_code == 200
    assert (await client.delete(f"/keys/{key['id']}")).status_code == 204
    problem(await encrypt(client, key["id"]), 410, "key_destroyed")


async def test_weights_that_go_while_a_request_waits_are_a_destroyed_key(service, client):
    key = await train_key(service, client)
    service.app_state.blobs.delete_folder("keys")
    problem(await encrypt(client, key["id"]), 410, "key_destroyed")


async def test_without_a_key_the_error_states_how_to_create_one(client):
    answer = await client.post("/encrypt", files=IMAGE_FILES, data={"scheme": NAME})
    assert "POST /keys" in problem(answer, 422, "key_needed")["detail"]


@pytest.mark.parametrize(
    ("order", "code", "pointer"),
    [
        ({"params": {}}, "invalid_request", "/params/dataset"),
        ({"params": {"dataset": "nowhere"}}, "unknown_dataset", "/params/dataset"),
        ({"params": {"dataset": "ds_" + "0" * 32}}, "unknown_dataset", "/params/dataset"),
        ({"params": {"dataset": ["sample"]}}, "invalid_request", "/params/dataset"),
        ({"params": {**PARAMS, "profile": "best"}}, "invalid_request", "/params/profile"),
        ({"params": {**PARAMS, "profile": []}}, "invalid_request", "/params/profile"),
        ({"params": {**PARAMS, "seed": -1}}, "invalid_request", "/params/seed"),
        ({"params": {**PARAMS, "epochs": 0}}, "invalid_request", "/params/epochs"),
        ({"params": {**PARAMS, "speed": 1}}, "invalid_request", "/params/speed"),
        ({"params": PARAMS, "material": {}}, "invalid_request", "/material"),
        ({"scheme": "tanaka", "params": PARAMS}, "invalid_request", "/params/dataset"),
    ],
)
async def test_a_bad_order_names_its_field_and_stores_nothing(client, order, code, pointer):
    body = problem(await client.post("/keys", json={"scheme": NAME, **order}), 422, code)
    assert pointer in [error["pointer"] for error in body["errors"]]
    assert (await client.get("/keys")).json()["items"] == []


async def test_another_accounts_upload_is_no_dataset_and_its_key_is_no_key(service, client):
    key = await train_key(service, client)
    async with service.client(await service.create_account("stranger")) as stranger:
        problem(await encrypt(stranger, key["id"]), 404, "unknown_key")
        problem(await stranger.post(f"/keys/{key['id']}/cancel"), 404, "unknown_key")
        order = {"name": "x", "schemes": [{"name": NAME, "key_id": key["id"]}], "attacks": [{"name": "none"}]}
        problem(await stranger.post("/evaluations", json={**order, "dataset": "sample"}), 422, "unknown_key")


async def test_the_same_idempotency_key_trains_one_key(service, client):
    headers = {"Idempotency-Key": "train-1"}
    order = {"scheme": NAME, "params": PARAMS}
    first, again = [await client.post("/keys", json=order, headers=headers) for _ in range(2)]
    assert first.status_code == again.status_code == 202
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["Location"] == first.headers["Location"]
    assert len((await client.get("/keys")).json()["items"]) == 1


async def test_trainings_count_against_the_limit_of_waiting_work(service, client, settings):
    from dataclasses import replace

    service.worker.paused = True
    limited = settings.model_copy(update={"max_active_jobs": 1})
    service.app.state.app_state = replace(service.app.state.app_state, settings=limited)
    await order_key(client)
    answer = await client.post("/keys", json={"scheme": NAME, "params": PARAMS})
    problem(answer, 429, "queue_full")
    assert int(answer.headers["Retry-After"]) > 0


async def test_a_waiting_training_is_cancelled_at_once_and_its_message_does_nothing(service, client):
    service.worker.paused = True
    key = await order_key(client)
    problem(await client.delete(f"/keys/{key['id']}"), 409, "key_busy")
    answer = await client.post(key["links"]["cancel"])
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    again = await client.post(key["links"]["cancel"])
    assert (again.status_code, again.json()) == (202, answer.json())
    service.worker.paused = False
    await asyncio.to_thread(service.worker.wait)
    assert (await client.get(f"/keys/{key['id']}")).json()["status"] == "cancelled"
    told = problem(await encrypt(client, key["id"]), 409, "key_not_ready")
    assert told["detail"] == f"{key['id']} is cancelled; train another: POST /keys"
    order = {"schemes": [{"name": NAME, "key_id": key["id"]}], "attacks": [{"name": "none"}], "dataset": "sample"}
    told = problem(await client.post("/evaluations", json=order), 409, "key_not_ready")
    assert told["errors"][0]["detail"] == "train another: POST /keys"
    assert (await client.delete(f"/keys/{key['id']}")).status_code == 204


async def test_a_running_training_is_asked_to_stop_and_may_be_asked_again(service, client):
    service.worker.paused = True
    key = await order_key(client)
    async with service.app_state.sessions() as session, session.begin():
        await session.execute(update(Key).values(status=Status.RUNNING))
    for _ in range(2):
        answer = await client.post(key["links"]["cancel"])
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelling")


async def test_a_key_that_is_not_trained_any_more_is_in_no_phase(service, client):
    service.worker.paused = True
    key = await order_key(client)
    for status, phase in ((Status.RUNNING, "epoch 14 of 500"), (Status.CANCELLED, None), (Status.FAILED, None)):
        async with service.app_state.sessions() as session, session.begin():
            await session.execute(update(Key).values(status=status, phase="epoch 14 of 500"))
        assert (await client.get(f"/keys/{key['id']}")).json()["phase"] == phase


async def test_an_evaluation_without_a_key_trains_one_for_its_cells(service, client):
    service.worker.paused = True
    order = {"schemes": [{"name": NAME, "epochs": 4}], "attacks": [{"name": "none"}, {"name": "fr"}]}
    settings = {"dataset": "sample", "profile": "smoke", "seed": 5, "samples": 1, "keys": 1}
    answer = await client.post("/evaluations", json={**order, **settings})
    assert answer.status_code == 202, answer.text
    body = answer.json()
    (key,) = body["keys"]
    assert (key["status"], key["params"]) == ("training", {"epochs": 4})
    assert key["training"] == {"profile": "smoke", "dataset": "sample", "seed": 5}
    assert {cell["scheme"]["key_id"] for cell in body["cells"]} == {key["id"]}
    assert body["settings"]["schemes"] == [{"name": NAME, "epochs": 4, "key_id": key["id"]}]
    assert (await client.get(f"/keys/{key['id']}")).json()["status"] == "training"

    async with service.app_state.sessions() as session, session.begin():
        running = {"status": Status.RUNNING, "progress": 0.75, "phase": "epoch 3 of 4"}
        await session.execute(update(Key).values(**running))
    progress = (await client.get(body["links"]["self"])).json()["progress"]
    assert progress["phase"] == f"training {NAME} key, epoch 3 of 4"
    assert (progress["done"], progress["total"], progress["fraction"]) == (0, 4, 0.625)  # it weighs more
    (head,) = (await client.get("/evaluations")).json()["items"]
    assert head["progress"]["fraction"] == 0.625


async def test_cancelling_a_key_that_an_evaluation_waits_for_fails_its_cells(service, client):
    service.worker.paused = True
    order = {"schemes": [{"name": NAME}, {"name": "tanaka"}], "attacks": [{"name": "none"}], "dataset": "sample"}
    body = (await client.post("/evaluations", json={**order, "profile": "smoke"})).json()
    await client.post(body["keys"][0]["links"]["cancel"])
    body = (await client.get(body["links"]["self"])).json()
    outcomes = [(c["scheme"]["name"], c["status"], (c["error"] or {}).get("code")) for c in body["cells"]]
    assert set(outcomes) == {(NAME, "failed", "key_unusable"), ("tanaka", "queued", None)}, outcomes


async def test_a_key_trained_for_an_evaluation_is_for_audits_only(service, client):
    body = {
        "schemes": [{"name": NAME}], "attacks": [{"name": "none"}], "dataset": "sample", "profile": "smoke", "seed": 7,
    }  # fmt: skip
    (trained,) = (await client.post("/evaluations", json=body)).json()["keys"]
    await asyncio.to_thread(service.worker.wait)
    key = (await client.get(f"/keys/{trained['id']}")).json()
    assert (key["status"], key["audit_only"], key["effective_bits"]) == ("ready", True, 0)
    refusal = problem(await encrypt(client, key["id"]), 409, "key_audit_only")
    assert "Train a key with POST /keys and no seed, or send allow_audit_key=true" in refusal["detail"]
    form = {"key_id": key["id"], "allow_audit_key": "true"}
    assert (await client.post("/encrypt", files=IMAGE_FILES, data=form)).status_code == 200


@pytest.mark.parametrize(("seed", "bits"), [({}, 256), ({"seed": 3}, 53)])
async def test_effective_bits_say_what_the_seed_of_a_trained_key_is_worth(service, client, seed, bits):
    key = await train_key(service, client, **seed)
    assert (key["audit_only"], key["effective_bits"]) == (False, bits)
    assert (await encrypt(client, key["id"])).status_code == 200
