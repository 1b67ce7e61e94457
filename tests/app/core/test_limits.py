"""Bodies are cut off while they arrive, and an account that asks too fast is told when to come back."""

from __future__ import annotations

import pytest

from app.settings import Settings
from tests.app.service import running

pytestmark = pytest.mark.anyio

LIMIT = 1000


@pytest.fixture
def small(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_body_bytes": LIMIT, "requests_per_second": 0.5})


def chunks(total):
    async def stream():
        for _ in range(total // 100):
            yield b"a" * 100

    return stream()


@pytest.mark.parametrize("path", ["/keys", "/encrypt", "/accounts", "/nothing"])
@pytest.mark.parametrize("type", ["application/json", "multipart/form-data; boundary=x"])
async def test_a_long_body_is_refused_with_and_without_its_length(small, path, type):
    async with running(small) as service, service.client(await service.account()) as client:
        declared = await client.post(path, content=b"a" * (LIMIT + 1), headers={"Content-Type": type})
        assert declared.status_code == 413
        streamed = await client.post(path, content=chunks(LIMIT + 1000), headers={"Content-Type": type})
        # a route that reads no further than the first wrong byte has nothing to count
        expected = {404} if path == "/nothing" else {400, 413, 415, 422}
        assert streamed.status_code in expected


async def test_a_streamed_json_body_over_the_limit_is_a_413(small):
    async with running(small) as service, service.client(await service.account()) as client:
        answer = await client.post("/keys", content=chunks(2000), headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
        assert str(LIMIT) in answer.json()["detail"]


async def test_an_account_over_its_rate_gets_429_and_another_does_not(small):
    async with running(small) as service:
        first, second = await service.account("first"), await service.account("second")
        async with service.client(first) as client:
            answers = [await client.get("/keys") for _ in range(12)]
            refused = [answer for answer in answers if answer.status_code == 429]
            assert refused
            assert 1 <= int(refused[0].headers["retry-after"]) <= 10
        async with service.client(second) as client:
            assert (await client.get("/keys")).status_code == 200
