"""Who may use the service, and what a token may do."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text, update

from unveil.app.accounts import queries
from unveil.app.accounts import service as accounts
from unveil.app.db.ids import new_id
from unveil.app.db.tables import Account, DashboardSession, IdempotencyRecord, SignInCode, Token
from unveil.app.errors.problem import BadSignInCode, Conflict, UnknownToken
from unveil.app.http.authentication import SESSION_COOKIE, principal_from_session
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
    async with service.app_state.sessions() as session:
        for table in (Token, IdempotencyRecord):
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


async def test_the_error_for_an_invalid_name_states_the_rule(client):
    answer = await client.post("/accounts", json={"name": "acct_1\n", "scopes": ["read"]})
    (said,) = answer.json()["errors"]
    assert said["detail"].startswith("must begin and end with a letter, digit or underscore")
    assert said["detail"].endswith('; got "acct_1\\n"')


async def test_an_account_has_a_quota_of_core_hours_that_administrators_change(service, client):
    body = {"name": "team", "scopes": ["read"], "max_cost_core_hours": 12.5}
    assert (await client.post("/accounts", json=body)).json()["max_cost_core_hours"] == 12.5
    changed = await client.patch("/accounts/team", json={"max_cost_core_hours": 0})
    assert (changed.status_code, changed.json()["max_cost_core_hours"]) == (200, 0)
    listed = {item["name"]: item["max_cost_core_hours"] for item in (await client.get("/accounts")).json()["items"]}
    assert listed == {"team": 0, "owner": None}
    for wrong in (
        {"max_cost_core_hours": -1},
        {"max_cost_core_hours": True},
        {},
        {"max_cost_core_hours": 1, "name": "other"},
    ):
        assert (await client.patch("/accounts/team", json=wrong)).status_code == 422, wrong
    assert (await client.patch("/accounts/nobody", json={"max_cost_core_hours": 1})).status_code == 404


async def test_a_taken_name_is_a_conflict(client):
    answer = await client.post("/accounts", json={"name": "owner", "scopes": ["read"]})
    assert (answer.status_code, answer.json()["code"]) == (409, "account_exists")


async def test_an_administrator_does_not_lock_itself_out(client):
    for own in ("owner", (await client.get("/accounts")).json()["items"][0]["id"]):
        answer = await client.delete(f"/accounts/{own}")
        assert (answer.status_code, answer.json()["code"]) == (409, "own_account")
    assert (await client.get("/keys")).status_code == 200


async def test_a_revoked_account_is_shut_out_at_once_and_revoking_again_is_harmless(service, client):
    token = await service.create_account("leaver")
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
    open_to_all = {"/health/live", "/health/ready", "/metrics", "/.well-known/jwks.json"}
    document = service.app.openapi()
    unguarded = {
        path for path, operations in document["paths"].items() for operation in operations.values()
        if not operation.get("security")
    }  # fmt: skip
    assert {path for path in unguarded if not path.startswith(("/dashboard", "/sign"))} <= open_to_all


async def test_a_sign_in_code_works_once_and_the_session_ends_with_sign_out(service):
    app_state = service.app_state
    await service.create_account("person")
    async with app_state.sessions() as session:
        person = await accounts.get(session, "person")
        code = await accounts.create_sign_in_code(session, app_state.keyring, person.id, 15)
        cookie = await accounts.open_session(session, app_state.keyring, code)
        with pytest.raises(BadSignInCode):
            await accounts.open_session(session, app_state.keyring, code)
    async with service.client(Cookie=f"{SESSION_COOKIE}={cookie}") as browser:
        assert (await browser.get("/keys")).status_code == 200
        async with app_state.sessions() as session:
            await accounts.close_session(session, app_state.keyring, cookie)
        assert (await browser.get("/keys")).status_code == 401


_SCOPE_SETS = st.frozensets(st.sampled_from(SCOPES), min_size=1)


@hypothesis_settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(kept=st.lists(_SCOPE_SETS, max_size=2), revoked=st.lists(_SCOPE_SETS, max_size=2), later=_SCOPE_SETS)
async def test_a_session_has_no_scope_that_a_live_token_of_its_account_lacks(service, kept, revoked, later):
    svc, account_id = service.app_state, new_id("acct")
    tokens = [(accounts.new_token(), scopes) for scopes in [*kept, *revoked, later]]
    *first, (last, _) = tokens
    before, after = frozenset().union(*kept, *revoked), frozenset().union(*kept)

    async def granted(cookie: str) -> frozenset[str]:
        caller = await principal_from_session(svc, cookie)
        return frozenset() if caller is None else caller.scopes

    async with svc.sessions() as session:
        session.add(Account(id=account_id, name=account_id))
        await session.flush()
        for token, scopes in first:
            await queries.add_token(session, svc.keyring.token_hash(token), account_id, sorted(scopes))
        await session.commit()
        if not first:
            with pytest.raises(Conflict, match="no valid token"):
                await accounts.create_sign_in_code(session, svc.keyring, account_id, 15)
            return
        code = await accounts.create_sign_in_code(session, svc.keyring, account_id, 15)
        cookies = [
            await accounts.open_session(session, svc.keyring, code),
            await accounts.open_session_for_account(
                session, svc.keyring, account_id, SCOPES
            ),  # as rows were written once
        ]
        assert [await granted(cookie) for cookie in cookies] == [before, before]

        hashes = [svc.keyring.token_hash(token) for token, _ in first[len(kept) :]]
        await session.execute(update(Token).where(Token.hash.in_(hashes)).values(revoked_at=func.clock_timestamp()))
        await session.commit()
        assert [await granted(cookie) for cookie in cookies] == [after, after]

        await queries.add_token(session, svc.keyring.token_hash(last), account_id, sorted(later))
        await session.commit()
        assert await granted(cookies[0]) == before & (after | later), "a session does not grow with later tokens"
        assert await granted(cookies[1]) == after | later


async def test_a_sign_in_link_of_a_read_only_account_cannot_administer_or_export(service, client):
    svc = service.app_state
    await service.create_account("reader", ["read"])
    async with svc.sessions() as session:
        reader = await accounts.get(session, "reader")
        code = await accounts.create_sign_in_code(session, svc.keyring, reader.id, 15)
    async with service.client(**{"Sec-Fetch-Site": "same-origin"}) as browser:
        page = await browser.get(f"/sign-in?code={code}")
        form = {"code": code, "csrf_token": _csrf_token(page.text)}
        assert (await browser.post("/sign-in", data=form)).status_code == 303
        assert (await browser.get("/")).status_code == 200
        assert (await browser.get("/accounts")).status_code == 403
        assert (await browser.post("/keys", json={"scheme": "tanaka"})).status_code == 403
        assert (await browser.get("/keys/key_x/material")).status_code == 403


async def test_a_session_without_a_live_token_is_over_and_so_is_a_code(service):
    svc = service.app_state
    await service.create_account("person")
    async with svc.sessions() as session:
        person = await accounts.get(session, "person")
        codes = [await accounts.create_sign_in_code(session, svc.keyring, person.id, 15) for _ in range(2)]
        cookie = await accounts.open_session(session, svc.keyring, codes[0])
        await session.execute(update(Token).values(revoked_at=func.clock_timestamp()))
        await session.commit()
        with pytest.raises(BadSignInCode):
            await accounts.open_session(session, svc.keyring, codes[1])
    async with service.client(Cookie=f"{SESSION_COOKIE}={cookie}") as browser:
        assert (await browser.get("/keys")).status_code == 401
        assert (await browser.get("/")).headers["location"] == "/sign-in?next=/"


async def test_a_code_that_was_issued_with_every_scope_opens_no_more_than_the_tokens_have(service):
    svc = service.app_state
    await service.create_account("reader", ["read"])
    async with svc.sessions() as session:
        reader = await accounts.get(session, "reader")
        code = await accounts.create_sign_in_code(session, svc.keyring, reader.id, 15)
        await session.execute(update(SignInCode).values(scopes=list(SCOPES)))
        cookie = await accounts.open_session(session, svc.keyring, code)
        stored = (await session.scalars(select(DashboardSession))).one()
        assert stored.scopes == ["read"]
    assert (await principal_from_session(svc, cookie)).scopes == {"read"}


async def test_an_old_sign_in_code_is_refused(service):
    app_state = service.app_state
    await service.create_account("person")
    async with app_state.sessions() as session:
        person = await accounts.get(session, "person")
        code = await accounts.create_sign_in_code(session, app_state.keyring, person.id, -1)
        with pytest.raises(BadSignInCode):
            await accounts.open_session(session, app_state.keyring, code)
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
    app_state = service.app_state
    await service.create_account("person")
    async with app_state.sessions() as session:
        person = await accounts.get(session, "person")
        cookie = await accounts.open_session_for_account(session, app_state.keyring, person.id, SCOPES)
    async with service.client(Cookie=f"{SESSION_COOKIE}={cookie}", **headers) as browser:
        assert (await browser.post("/keys", json={"scheme": "tanaka"})).status_code == status


async def test_a_new_start_keeps_the_local_token_and_revives_nothing(service):
    app_state, token = service.app_state, accounts.new_token()
    async with app_state.sessions() as session:
        assert await accounts.ensure_local_token(session, app_state.keyring, "local", token)
        assert await accounts.ensure_local_token(session, app_state.keyring, "local", token)
        async with service.client(token) as client:
            assert (await client.get("/accounts")).status_code == 200
        await accounts.revoke(session, "local")
        assert not await accounts.ensure_local_token(session, app_state.keyring, "local", token)
        assert not await accounts.ensure_local_token(session, app_state.keyring, "local", accounts.new_token())
    async with service.client(token) as client:
        assert (await client.get("/accounts")).status_code == 401


async def test_a_new_local_token_revokes_the_one_before_and_no_other(service):
    app_state, old, new = service.app_state, accounts.new_token(), accounts.new_token()
    async with app_state.sessions() as session:
        await accounts.ensure_local_token(session, app_state.keyring, "local", old)
        ci = await accounts.create_token(session, app_state.keyring, "local", ["read"], "ci")
        assert await accounts.ensure_local_token(session, app_state.keyring, "local", new)
    for token, status in ((old, 401), (new, 200), (ci.token, 200)):
        async with service.client(token) as client:
            assert (await client.get("/schemes")).status_code == status


async def test_single_tokens_are_listed_and_revoked_and_sessions_lose_their_scopes(service):
    app_state = service.app_state
    await service.create_account("person", ["read"])
    async with app_state.sessions() as session:
        extra = await accounts.create_token(session, app_state.keyring, "person", ["encrypt", "read"], "laptop")
        person = await accounts.get(session, "person")
        cookie = await accounts.open_session_for_account(session, app_state.keyring, person.id, ["encrypt", "read"])
        assert [(t.label, t.scopes) for t in await accounts.list_tokens(session, "person")] == [
            ("", ["read"]), ("laptop", ["encrypt", "read"]),
        ]  # fmt: skip
        await accounts.revoke_token(session, extra.id)
        await accounts.revoke_token(session, extra.id)
        assert [t.revoked_at is None for t in await accounts.list_tokens(session, "person")] == [True, False]
        with pytest.raises(UnknownToken):
            await accounts.revoke_token(session, "tok_unknown")
    principal = await principal_from_session(app_state, cookie)
    assert principal is not None
    assert principal.scopes == {"read"}
    async with service.client(extra.token) as client:
        assert (await client.get("/keys")).status_code == 401


def _csrf_token(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found is not None
    return found[1]


async def _make_code(service, name):
    app_state = service.app_state
    async with app_state.sessions() as session:
        account = await accounts.get(session, name)
        return await accounts.create_sign_in_code(session, app_state.keyring, account.id, 15)


async def test_opening_a_link_signs_nobody_in_until_its_page_is_confirmed(service):
    await service.create_account("person")
    code = await _make_code(service, "person")
    async with service.client() as scanner:
        for _ in range(2):
            page = await scanner.get(f"/sign-in?code={code}")
            assert page.status_code == 200
            assert "Sign in as person" in page.text
    async with service.client(**{"Sec-Fetch-Site": "same-origin"}) as browser:
        form = {"code": code, "csrf_token": _csrf_token((await browser.get(f"/sign-in?code={code}")).text)}
        assert (await browser.get("/")).headers["location"].startswith("/sign-in")
        assert (await browser.post("/sign-in", data=form)).status_code == 303
        assert (await browser.get("/")).status_code == 200
    async with service.client(**{"Sec-Fetch-Site": "same-origin"}) as late:
        assert (await late.get(f"/sign-in?code={code}")).status_code == 401, "the code is used"


@pytest.mark.parametrize(
    ("headers", "with_token", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, True, 403),
        ({"Sec-Fetch-Site": "same-origin"}, False, 403),
        ({"Sec-Fetch-Site": "same-origin"}, True, 303),
    ],
)
async def test_another_site_cannot_sign_a_visitor_in(service, headers, with_token, status):
    await service.create_account("attacker")
    code = await _make_code(service, "attacker")
    async with service.client(**headers) as browser:
        csrf_token = _csrf_token((await browser.get(f"/sign-in?code={code}")).text)
        form = {"code": code, "csrf_token": csrf_token if with_token else "guessed"}
        assert (await browser.post("/sign-in", data=form)).status_code == status


async def test_the_page_warns_before_it_ends_the_session_of_another_account(service):
    await service.create_account("mine")
    await service.create_account("theirs")
    async with service.client(**{"Sec-Fetch-Site": "same-origin"}) as browser:
        code = await _make_code(service, "mine")
        form = {"code": code, "csrf_token": _csrf_token((await browser.get(f"/sign-in?code={code}")).text)}
        await browser.post("/sign-in", data=form)
        page = await browser.get(f"/sign-in?code={await _make_code(service, 'theirs')}")
        assert "You are signed in as <strong>mine</strong>" in page.text


async def test_behind_a_tls_proxy_cookies_are_host_cookies(service):
    settings = service.app_state.settings.model_copy(update={"secure_cookies": True})
    service.app.state.app_state = replace(service.app.state.app_state, settings=settings)
    token = await service.create_account("person")
    async with service.client(**{"Sec-Fetch-Site": "same-origin"}) as browser:
        answer = await browser.post("/sign-in", data={"token": token})
        assert answer.headers["set-cookie"].startswith("__Host-unveil_session=")
        assert "; Secure" in answer.headers["set-cookie"]
