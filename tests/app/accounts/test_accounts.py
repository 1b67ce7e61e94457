"""Who may use the service, and what a token may do."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text

from unveil.app.accounts import service as accounts
from unveil.app.db.tables import DashboardSession, Idempotency, Token
from unveil.app.http.authentication import SESSION_COOKIE
from unveil.app.security.principal import SCOPES

pytestmark = pytest.mark.anyio


async def test_a_made_account_can_use_its_token(service, client):
    answer = await client.post("/accounts", json={"name": "team", "scopes": ["keys", "read"]})
    assert answer.status_code == 201
    assert answer.json()["scopes"] == ["keys", "read"]
    async with service.client(answer.json()["token"]) as made:
        assert (await made.get("/keys")).status_code == 200
        assert (await made.post("/encrypt")).status_code == 403
        assert (await made.get("/accounts")).status_code == 403


async def test_the_token_is_nowhere_in_the_database(service, client):
    made = await client.post("/accounts", json={"name": "team", "scopes": ["read"]}, headers={"Idempotency-Key": "a"})
    token = made.json()["token"]
    async with service.services.sessions() as session:
        for table in (Token, Idempotency):
            rows = (await session.execute(text(f"SELECT t::text FROM {table.__tablename__} t"))).scalars().all()
            assert rows
            assert not any(token in row for row in rows)
    again = await client.post("/accounts", json={"name": "team", "scopes": ["read"]}, headers={"Idempotency-Key": "a"})
    assert again.json()["token"] == token
    assert token not in (await client.get("/accounts")).text


@pytest.mark.parametrize(
    ("order", "pointer"),
    [
        ({"name": "", "scopes": ["read"]}, "/name"),
        ({"name": "a\0b", "scopes": ["read"]}, "/name"),
        ({"name": "..", "scopes": ["read"]}, "/name"),
        ({"name": " z ", "scopes": ["read"]}, "/name"),
        ({"name": "acct_" + "0" * 32, "scopes": ["read"]}, "/name"),
        ({"name": "a", "scopes": []}, "/scopes"),
        ({"name": "a", "scopes": ["root"]}, "/scopes/0"),
        ({"scopes": ["read"]}, "/name"),
        ({"name": "a", "scopes": ["read"], "admin": True}, "/admin"),
    ],
)
async def test_a_bad_order_names_its_field(client, order, pointer):
    answer = await client.post("/accounts", json=order)
    assert answer.status_code == 422
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]


async def test_a_bad_name_is_told_the_rule_in_words(client):
    answer = await client.post("/accounts", json={"name": "acct_1\n", "scopes": ["read"]})
    (said,) = answer.json()["errors"]
    assert said["detail"].startswith("must begin and end with a letter, digit or underscore")
    assert said["detail"].endswith('; got "acct_1\\n"')


async def test_a_taken_name_is_a_conflict(client):
    answer = await client.post("/accounts", json={"name": "owner", "scopes": ["read"]})
    assert (answer.status_code, answer.json()["code"]) == (409, "account_exists")


async def test_an_administrator_does_not_lock_itself_out(client):
    for own in ("owner", (await client.get("/accounts")).json()["items"][0]["id"]):
        answer = await client.delete(f"/accounts/{own}")
        assert (answer.status_code, answer.json()["code"]) == (409, "own_account")
    assert (await client.get("/keys")).status_code == 200


async def test_a_revoked_account_is_shut_out_at_once_and_revoking_again_is_harmless(service, client):
    token = await service.account("leaver")
    async with service.client(token) as leaver:
        assert (await leaver.get("/keys")).status_code == 200
        assert (await client.delete("/accounts/leaver")).status_code == 204
        assert (await client.delete("/accounts/leaver")).status_code == 204
        assert (await leaver.get("/keys")).status_code == 401
    listed = {item["name"]: item for item in (await client.get("/accounts")).json()["items"]}
    assert listed["leaver"]["revoked_at"] is not None
    assert listed["owner"]["revoked_at"] is None
    assert (await client.delete("/accounts/nobody")).status_code == 404


@pytest.mark.parametrize("header", [None, "Bearer ", "Bearer wrong", "Basic abc", "wrong"])
async def test_without_a_valid_token_every_guarded_route_answers_401(service, header):
    headers = {} if header is None else {"Authorization": header}
    async with service.client(**headers) as stranger:
        for method, path in (("GET", "/keys"), ("POST", "/encrypt"), ("GET", "/accounts"), ("DELETE", "/keys/key_a")):
            answer = await stranger.request(method, path)
            assert answer.status_code == 401, f"{method} {path}"
            assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_every_route_is_guarded_but_those_that_need_no_caller(service):
    open_to_all = {"/health/live", "/health/ready", "/metrics"}
    document = service.app.openapi()
    unguarded = {
        path for path, operations in document["paths"].items() for operation in operations.values()
        if not operation.get("security")
    }  # fmt: skip
    assert {path for path in unguarded if not path.startswith(("/dashboard", "/sign"))} <= open_to_all


async def test_a_sign_in_code_works_once_and_the_session_ends_with_sign_out(service):
    svc = service.services
    await service.account("person")
    async with svc.sessions() as session:
        person = await accounts.find(session, "person")
        code = await accounts.sign_in_code(session, svc.ring, person.id, 15)
        cookie = await accounts.open_session(session, svc.ring, code)
        with pytest.raises(accounts.BadSignInCode):
            await accounts.open_session(session, svc.ring, code)
    async with service.client(Cookie=f"{SESSION_COOKIE}={cookie}") as browser:
        assert (await browser.get("/keys")).status_code == 200
        async with svc.sessions() as session:
            await accounts.close_session(session, svc.ring, cookie)
        assert (await browser.get("/keys")).status_code == 401


async def test_an_old_sign_in_code_is_refused(service):
    svc = service.services
    await service.account("person")
    async with svc.sessions() as session:
        person = await accounts.find(session, "person")
        code = await accounts.sign_in_code(session, svc.ring, person.id, -1)
        with pytest.raises(accounts.BadSignInCode):
            await accounts.open_session(session, svc.ring, code)
        assert (await session.scalars(select(DashboardSession))).all() == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://evil.test"}, 403),
        ({}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 201),
        ({"Origin": "http://unveil.test"}, 201),
    ],
)
async def test_another_site_cannot_change_things_with_a_browsers_cookie(service, headers, status):
    svc = service.services
    await service.account("person")
    async with svc.sessions() as session:
        person = await accounts.find(session, "person")
        cookie = await accounts.open_session_of_token(session, svc.ring, person.id, SCOPES)
    async with service.client(Cookie=f"{SESSION_COOKIE}={cookie}", **headers) as browser:
        assert (await browser.post("/keys", json={"scheme": "tanaka"})).status_code == status


async def test_ensuring_the_local_account_again_changes_nothing(service):
    svc, token = service.services, accounts.new_token()
    async with svc.sessions() as session:
        first = await accounts.ensure(session, svc.ring, "local", token)
        await accounts.revoke(session, "local")
        assert await accounts.ensure(session, svc.ring, "local", token) == first
    async with service.client(token) as client:
        assert (await client.get("/accounts")).status_code == 200
