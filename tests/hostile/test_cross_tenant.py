"""Account B goes everywhere with account A's ids, and cannot tell them from ids that were never given out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.hostile.conftest import NO_RECEIVER, Target
from tests.hostile.cross_tenant import (
    UNKNOWN,
    Endpoint,
    Ids,
    create_resources,
    list_endpoints,
    requests_with_ids_in_bodies,
)
from tests.jobs import run_cell
from tests.sample_images import archive, classes, png

NOT_ADMIN = ["encrypt", "keys", "keys:export", "evaluate", "read"]


@dataclass(frozen=True)
class Clients:
    owner: httpx.Client
    other_account: httpx.Client
    browser: httpx.Client  # the stranger, signed in on the dashboard
    ids: Ids

    def __iter__(self) -> Iterator[httpx.Client]:
        return iter((self.owner, self.other_account, self.browser))


@pytest.fixture(scope="module")
def clients(target: Target) -> Iterator[Clients]:
    owner, token = target.client(target.account("owner")), target.account("stranger", NOT_ADMIN)
    ids = create_resources(owner, archive(classes(5)), NO_RECEIVER)
    for cell in owner.get(f"/evaluations/{ids['evaluation']}").json()["cells"]:
        if cell["status"] == "queued":
            run_cell(target.runtime, cell["id"])
    browser = httpx.Client(base_url=target.url, headers={"Origin": target.url}, timeout=300)
    assert browser.post("/sign-in", data={"token": token}).status_code == 303
    found = Clients(owner, target.client(token), browser, ids)
    yield found
    for client in found:
        client.close()


def client_for(clients: Clients, stop: Endpoint) -> httpx.Client:
    return clients.browser if stop.path.startswith("/dashboard") else clients.other_account


def normalize_response(answer: httpx.Response, ids: Ids) -> tuple[int, str]:
    """What an answer says, with its ids made equal and without what is new in each."""
    text = answer.text
    for kind, id in ids.items():
        text = text.replace(id, kind)
    return answer.status_code, text.replace(answer.headers["X-Request-Id"], "")


def test_every_address_of_another_is_as_if_it_were_not_there(target: Target, clients: Clients) -> None:
    walked = [stop for stop in list_endpoints(target.app) if stop.is_owned]
    assert len(walked) >= 18
    for stop in walked:
        http = client_for(clients, stop)
        theirs, nobodys = (http.request(stop.method, stop.address(ids), **stop.body) for ids in (clients.ids, UNKNOWN))
        assert theirs.status_code == 404, stop
        assert normalize_response(theirs, clients.ids) == normalize_response(nobodys, UNKNOWN), stop


def test_the_walk_finds_everything_where_its_owner_goes(target: Target, clients: Clients) -> None:
    """Otherwise the 404s above would say nothing."""
    for stop in list_endpoints(target.app):
        if stop.is_owned and stop.method == "GET" and not stop.path.startswith("/dashboard"):
            answer = clients.owner.get(stop.address(clients.ids), headers={"Last-Event-ID": str(2**62)})
            assert answer.is_success, stop


def test_what_conditions_an_answer_tells_nothing_either(clients: Clients) -> None:
    address = f"/evaluations/{clients.ids['evaluation']}"
    etag = clients.owner.get(address).headers["ETag"]
    assert clients.other_account.get(address, headers={"If-None-Match": etag}).status_code == 404
    assert clients.other_account.get(f"{address}/events", headers={"Last-Event-ID": str(2**62)}).status_code == 404


def test_an_id_in_a_body_is_as_unknown_as_one_in_an_address(clients: Clients) -> None:
    bodies = [requests_with_ids_in_bodies(ids, png(0), b"") for ids in (clients.ids, UNKNOWN)]
    for name in bodies[0]:
        http = clients.browser if name == "compare" else clients.other_account
        theirs, nobodys = (http.request(**body[name]) for body in bodies)
        assert theirs.status_code in (404, 422), name
        assert normalize_response(theirs, clients.ids) == normalize_response(nobodys, UNKNOWN), name


def test_no_list_and_no_count_tells_of_another(target: Target, clients: Clients) -> None:
    for stop in list_endpoints(target.app):
        if stop.method != "GET" or stop.is_owned:
            continue
        answer = client_for(clients, stop).get(stop.address(clients.ids), params={"limit": 1})
        nowhere = stop.path == "/dashboard/{path:path}" or stop.path.startswith("/shared/")
        expected = (404,) if nowhere else (200, 403, 422)
        assert answer.status_code in expected, stop
        assert not [id for id in clients.ids.values() if id in answer.text], stop
    for path in ("/keys", "/evaluations"):
        assert clients.other_account.get(path).json() == {"items": [], "next": None}
    mine = {item["id"] for item in clients.other_account.get("/datasets", params={"limit": 200}).json()["items"]}
    assert not [id for id in mine if id.startswith("ds_")]


def test_an_idempotency_key_of_another_opens_nothing(clients: Clients) -> None:
    request = {"json": {"scheme": "tanaka"}, "headers": {"Idempotency-Key": "walk"}}
    theirs, mine = (http.post("/keys", **request) for http in (clients.owner, clients.other_account))
    assert mine.status_code == 201
    assert mine.json()["id"] != theirs.json()["id"]
    assert "Idempotency-Replayed" not in mine.headers


def test_without_the_scope_of_administrators_accounts_cannot_be_asked_about(clients: Clients) -> None:
    for name in ("owner", "nobody"):
        assert clients.other_account.delete(f"/accounts/{name}").status_code == 403
