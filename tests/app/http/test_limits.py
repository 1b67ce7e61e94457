"""Limits of body sizes and request rates."""

from __future__ import annotations

import json

import pytest

from tests.app.service import run_service
from unveil.app.settings import Settings

pytestmark = pytest.mark.anyio

LIMIT = 1000
SAME_ORIGIN = {"Origin": "http://unveil.test"}


@pytest.fixture
def small_limits(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_body_bytes": LIMIT})


def chunks(total):
    async def stream():
        for _ in range(total // 100):
            yield b"a" * 100

    return stream()


@pytest.mark.parametrize("path", ["/keys", "/encrypt", "/accounts", "/nothing"])
@pytest.mark.parametrize("type", ["application/json", "multipart/form-data; boundary=x"])
async def test_an_oversized_body_is_a_413_with_and_without_a_length(small_limits, path, type):
    async with run_service(small_limits) as service, service.client(await service.create_account()) as client:
        declared = await client.post(path, content=b"a" * (LIMIT + 1), headers={"Content-Type": type})
        assert (declared.status_code, declared.json()["code"]) == (413, "too_large")
        assert declared.headers["connection"] == "close"
        streamed = await client.post(path, content=chunks(LIMIT + 1000), headers={"Content-Type": type})
        # a route that stops at the first wrong byte reads less than the limit
        expected = {404} if path == "/nothing" else {400, 413, 415, 422}
        assert streamed.status_code in expected


async def test_a_streamed_json_body_over_the_limit_is_a_413(small_limits):
    async with run_service(small_limits) as service, service.client(await service.create_account()) as client:
        answer = await client.post("/keys", content=chunks(2000), headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
        assert str(LIMIT) in answer.json()["detail"]


async def test_an_account_over_its_rate_gets_429_and_another_does_not(settings):
    async with run_service(settings.model_copy(update={"requests_per_second": 0.05})) as service:
        first, second = await service.create_account("first"), await service.create_account("second")
        async with service.client(first) as client:
            assert (await client.get("/keys")).status_code == 200
            refused = await client.get("/keys")
            assert refused.status_code == 429
            assert 1 <= int(refused.headers["retry-after"]) <= 40
        async with service.client(second) as client:
            assert (await client.get("/keys")).status_code == 200


async def test_an_address_without_a_token_is_limited_and_a_caller_from_there_is_not(settings):
    few = settings.model_copy(update={"anonymous_requests_per_second": 0.05})
    async with run_service(few) as service, service.client() as stranger, service.client("wrong") as guesser:
        assert (await stranger.get("/keys")).status_code == 401
        for refused in (
            await guesser.get("/keys"),
            await guesser.post("/sign-in", data={"token": "x"}, headers=SAME_ORIGIN),
        ):
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
        async with service.client(await service.create_account()) as client:
            assert (await client.get("/keys")).status_code == 200


@pytest.mark.parametrize("path", ["/keys", "/evaluations", "/accounts", "/datasets", "/encrypt", "/decrypt"])
@pytest.mark.parametrize("type", ["application/json", "multipart/form-data; boundary=x"])
async def test_nothing_is_read_of_a_body_before_its_caller_is_known(service, path, type):
    async def body():
        yield pytest.fail("was read")

    lacking = await service.create_account("lacking", ["read"])
    for token, status in ((None, 401), ("wrong", 401), (lacking, 403)):
        async with service.client(token) as client:
            answer = await client.post(path, content=body(), headers={"Content-Type": type})
            assert answer.status_code == status, answer.text


async def test_json_of_very_many_values_is_not_parsed(client, monkeypatch):
    monkeypatch.setattr(json, "loads", lambda *_, **__: pytest.fail("was parsed"))
    answer = await client.post("/keys", content=b"[" + b"{}," * 300_000, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert b"about 600001 values" in answer.content


async def test_anonymous_clients_may_send_little(service):
    async with service.client(**SAME_ORIGIN) as anonymous:
        answer = await anonymous.post("/sign-in", data={"token": "x" * 5000})
    assert answer.status_code == 413
    assert "4096" in answer.text


async def test_datasets_have_a_limit_of_their_own(settings):
    limits = settings.model_copy(update={"max_body_bytes": LIMIT, "max_upload_bytes": 3 * LIMIT})
    async with run_service(limits) as service, service.client(await service.create_account()) as client:
        for size, expected in ((2 * LIMIT, 422), (4 * LIMIT, 413)):
            files = {"archive": ("a.zip", b"a" * size, "application/zip")}
            answer = await client.post("/datasets", files=files)  # without a name
            assert answer.status_code == expected
            assert answer.headers["content-type"] == "application/problem+json"
