"""Ordering an evaluation."""

from __future__ import annotations

import pytest
import redis.asyncio
from sqlalchemy import func, select, update

from tests.app.evaluations.conftest import ORDER, create_evaluation
from unveil.app.db.ids import new_id
from unveil.app.db.tables import Cell, Evaluation, Key
from unveil.models.catalog import new_secret


def expect_rejection(client, **overrides):
    answer = client.post("/evaluations", json={**ORDER, **overrides})
    assert answer.headers["content-type"].startswith("application/problem+json")
    body = answer.json()
    return answer.status_code, body["code"], {error["pointer"]: error["detail"] for error in body["errors"]}


def test_an_order_is_the_product_of_schemes_and_attacks(client):
    answer = client.post("/evaluations", json=ORDER)
    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["Location"] == f"/evaluations/{body['id']}" == body["links"]["self"]
    assert answer.headers["Retry-After"] == "2"
    assert body["status"] == "queued"
    pairs = [(cell["scheme"]["name"], cell["attack"]["name"]) for cell in body["cells"]]
    assert pairs == [(s, a) for s in ("pixelwise", "tanaka") for a in ("none", "fr", "brute-force")]
    assert body["cells"][1]["attack"] == {"name": "fr", "L": 8, "b": 0, "nibblewise": False}
    assert body["cells"][1]["threat_model"] == "ciphertext-only"
    waits = "waiting: no attack worker is running"
    assert body["progress"] == {"done": 0, "total": 6, "fraction": 0, "eta_s": None, "phase": waits}
    assert {cell["phase"] for cell in body["cells"]} == {waits}
    assert body["settings"]["schemes"][1] == {"name": "tanaka", "variant": "paper", "block": 4}
    assert body["settings"]["ssim_mode"] == "rgb7"
    assert body["versions"]["python"]
    assert client.get(answer.headers["Location"]).json() == body


def test_settings_say_how_many_images_the_profile_takes_and_can_be_ordered_again(client):
    told = client.post("/evaluations", json=ORDER).json()["settings"]
    assert (told["profile"], told["training_images"], told["test_images"]) == ("smoke", 64, 32)
    again = client.post("/evaluations", json=told)
    assert (again.status_code, again.json()["settings"]) == (202, told)
    other = client.post("/evaluations", json={**told, "profile": "paper", "training_images": None})
    assert other.status_code == 422
    assert other.json()["errors"] == [
        {"pointer": "/test_images", "detail": "profile paper takes all; leave it out or give the same"}
    ]


def test_a_setting_that_is_unknown_is_answered_with_all_that_a_scheme_takes(client):
    schemes = [{"name": "tanaka", "key": "key_1"}, {"name": "external", "key": "key_1"}]
    refused = client.post("/evaluations", json={**ORDER, "schemes": schemes}).json()["errors"]
    assert {error["pointer"]: error["detail"] for error in refused}.items() >= {
        "/schemes/0/key": "unknown parameter; known: block, key_id, variant",
        "/schemes/1/key": "unknown parameter; known: dataset",
    }.items()


def test_one_message_per_cell_is_sent_to_the_workers(client, runtime):
    from unveil.app import broker

    body = create_evaluation(client)
    assert broker.count_job_messages(runtime.celery) == len(body["cells"])


def test_attacks_that_the_profile_requires_and_that_train_nothing_are_added_where_they_apply(client, full_profile):
    different, same = {"name": "pixelwise", "key_mode": "different"}, {"name": "tanaka"}
    body = create_evaluation(client, schemes=[different, same], attacks=[{"name": "fr", "L": 4}], profile="quick")
    assert body["settings"]["attacks"] == [{"name": "fr", "L": 4, "b": 0, "nibblewise": False}]
    cells = [(cell["scheme"]["name"], cell["attack"]["name"]) for cell in body["cells"] if not cell["requested"]]
    assert cells == [
        *(("pixelwise", name) for name in ("brute-force", "fr-sorted", "none", "simulated-pairs")),
        *(("tanaka", n) for n in ("brute-force", "chosen-plaintext", "key-recovery", "known-plaintext", "none")),
    ]
    assert [cell["attack"]["name"] for cell in body["cells"] if cell["requested"]] == ["fr", "fr"]
    again = client.post("/evaluations", json=body["settings"]).json()
    assert [cell["attack"] for cell in again["cells"]] == [cell["attack"] for cell in body["cells"]]


@pytest.mark.parametrize(
    ("changed", "pointers"),
    [
        ({"schemes": [{"name": "rot13"}]}, ["/schemes/0/name"]),
        ({"schemes": [{"name": "tanaka", "variant": "mine"}]}, ["/schemes/0/variant"]),
        ({"schemes": [{"name": "tanaka", "speed": 9}]}, ["/schemes/0/speed"]),
        ({"schemes": [{"name": "tanaka"}, {"name": "tanaka", "variant": "paper"}]}, ["/schemes/1"]),
        ({"attacks": [{"name": "fr", "L": 9}, {"name": "fr", "b": "x"}]}, ["/attacks/0/L", "/attacks/1/b"]),
        ({"attacks": [{"name": "fr"}, {"name": "fr"}]}, ["/attacks/1"]),
        ({"attacks": [{"name": "guess"}]}, ["/attacks/0/name"]),
        ({"attacks": []}, ["/attacks"]),
        ({"schemes": "tanaka"}, ["/schemes"]),
        ({"profile": "fast"}, ["/profile"]),
        ({"ssim_mode": "best"}, ["/ssim_mode"]),
        ({"seed": -1}, ["/seed"]),
        ({"seed": 2**40}, ["/seed"]),
        ({"seed": True}, ["/seed"]),
        ({"seed": "0"}, ["/seed"]),
        ({"samples": 1000}, ["/samples"]),
        ({"samples": 4.0}, ["/samples"]),
        ({"keys": "2"}, ["/keys"]),
        ({"utility": "yes"}, ["/utility"]),
        ({"attacks": [{"name": "itn", "rate": 10**400}]}, ["/attacks/0/rate"]),
        ({"keys": 0}, ["/keys"]),
        ({"name": "a\u0000b"}, ["/name"]),
        ({"speed": 9}, ["/speed"]),
        ({"utility": True}, ["/dataset"]),  # sample: train and test are of different classes
    ],
)
def test_what_cannot_be_used_is_named(client, changed, pointers):
    status, code, errors = expect_rejection(client, **changed)
    assert (status, code) == (422, "invalid_request")
    assert list(errors) == pointers


@pytest.mark.parametrize("name", ["nowhere", "ds_" + "0" * 32, "ds_\u00e9"])
@pytest.mark.parametrize("field", ["dataset", "public_dataset"])
def test_an_unknown_dataset_is_named(client, name, field):
    status, code, errors = expect_rejection(client, **{field: name})
    assert (status, code, list(errors)) == (422, "unknown_dataset", [f"/{field}"])


def test_public_images_must_have_the_size_of_the_attacked_ones(client):
    status, _, errors = expect_rejection(client, public_dataset="cifar10")
    assert status == 422
    assert "32x32" in errors["/public_dataset"]


def test_a_pair_that_cannot_be_run_is_a_cell_with_a_reason(client, monkeypatch):
    from unveil.models.attacks.fr import FeatureReconstruction

    monkeypatch.setattr(
        FeatureReconstruction, "not_applicable_reason", lambda self, scheme: "no" if scheme.name == "tanaka" else None
    )
    body = create_evaluation(client)
    (cell,) = [c for c in body["cells"] if c["status"] == "not_applicable"]
    assert (cell["scheme"]["name"], cell["attack"]["name"], cell["reason"]) == ("tanaka", "fr", "no")
    assert cell["error"] is None
    assert (body["progress"]["done"], body["progress"]["total"]) == (0, 5), "it counts for neither"
    status, code, errors = expect_rejection(client, schemes=[{"name": "tanaka"}], attacks=[{"name": "fr"}])
    assert (status, code, list(errors)) == (422, "no_pair_applies", ["/attacks"])


# --- keys -------------------------------------------------------------------------------------------------------


def store_key(runtime, account_id, **changed):
    id = new_id("key")
    with runtime.sessions.begin() as session:
        sealed = runtime.keyring.seal(new_secret(), purpose="key", owner=account_id, id=id)
        values = {"scheme": "tanaka", "params": {"variant": "icce2018", "block": 4}, "status": "succeeded"}
        session.add(Key(id=id, account_id=account_id, encrypted_secret=sealed, **{**values, **changed}))
    return id


@pytest.fixture
def account_id(client, runtime):
    body = create_evaluation(client)
    with runtime.sessions() as session:
        return session.get_one(Evaluation, body["id"]).account_id


def test_a_keys_own_settings_are_used(client, runtime, account_id):
    key_id = store_key(runtime, account_id)
    body = create_evaluation(client, schemes=[{"name": "tanaka", "key_id": key_id}])
    assert body["cells"][0]["scheme"] == {"name": "tanaka", "variant": "icce2018", "block": 4, "key_id": key_id}
    status, _, errors = expect_rejection(client, schemes=[{"name": "tanaka", "variant": "paper", "key_id": key_id}])
    assert (status, list(errors)) == (422, ["/schemes/0/variant"])
    status, _, errors = expect_rejection(client, schemes=[{"name": "pixelwise", "key_id": key_id}])
    assert (status, list(errors)) == (422, ["/schemes/0/key_id"])


def test_a_foreign_a_destroyed_and_a_key_of_another_size_are_refused(client, sign_in, runtime, account_id):
    entry = {"name": "tanaka", "key_id": store_key(runtime, account_id)}
    assert expect_rejection(sign_in("stranger"), schemes=[entry])[:2] == (422, "unknown_key")
    assert expect_rejection(client, schemes=[{"name": "tanaka", "key_id": "key_\u0000"}])[:2] == (422, "unknown_key")
    with runtime.sessions.begin() as session:
        session.execute(update(Key).values(destroyed_at=func.clock_timestamp(), encrypted_secret=None))
    assert expect_rejection(client, schemes=[entry])[:2] == (410, "key_destroyed")
    explicit = store_key(runtime, account_id, scheme="pixelwise", params={"key_mode": "same"}, width=32, height=16)
    status, _, errors = expect_rejection(client, schemes=[{"name": "pixelwise", "key_id": explicit}])
    assert status == 422
    assert "32x16" in errors["/schemes/0/key_id"]


# --- limits, repeats, outages -----------------------------------------------------------------------------------


def test_an_account_may_not_fill_the_queue(client, settings, service, sign_in):
    service.replace_services(settings=settings.model_copy(update={"max_active_jobs": 8}))
    create_evaluation(client)
    answer = client.post("/evaluations", json=ORDER)
    assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
    assert int(answer.headers["Retry-After"]) > 0
    create_evaluation(sign_in("another"))
    many = [{"name": "fr", "L": bits} for bits in range(1, 9)]
    assert client.post("/evaluations", json={**ORDER, "attacks": many}).status_code == 422


def test_the_same_idempotency_key_makes_one_evaluation(client, runtime):
    headers = {"Idempotency-Key": "order-17"}
    first = client.post("/evaluations", json=ORDER, headers=headers)
    again = client.post("/evaluations", json=ORDER, headers=headers)
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    assert again.headers["Location"] == first.headers["Location"]
    other = client.post("/evaluations", json={**ORDER, "seed": 1}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    with runtime.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Evaluation)) == 1
        assert session.scalar(select(func.count()).select_from(Cell)) == 6


def test_without_a_broker_an_order_is_accepted_and_waits_for_the_sweeper(client, service):
    service.replace_services(redis=redis.asyncio.Redis.from_url("redis://127.0.0.1:9/0"))
    body = create_evaluation(client)
    assert client.get(body["links"]["self"]).json()["status"] == "queued"


def test_an_order_needs_the_scope(sign_in):
    answer = sign_in("reader", ["read"]).post("/evaluations", json=ORDER)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_an_evaluation_has_up_to_128_attacks(client):
    body = {"schemes": [{"name": "tanaka"}], "dataset": "sample", "profile": "smoke"}
    attacks = [{"name": "itn", "epochs": 1 + number} for number in range(129)]
    most = client.post("/evaluations/estimate", json={**body, "attacks": attacks[:128]})
    assert most.status_code == 200, most.text
    assert most.json()["cells"] > 128, "the profile adds others"
    refused = client.post("/evaluations/estimate", json={**body, "attacks": attacks})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/attacks")
