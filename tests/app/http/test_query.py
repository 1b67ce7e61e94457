"""Query parameters that no route has, and parameters that are given twice."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("path", ["/schemes", "/schemes/tanaka", "/keys", "/datasets", "/jobs", "/accounts", "/board"])
async def test_an_unknown_parameter_is_refused(client, path):
    answer = await client.get(path, params={"nonsense": "1"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == "/query/nonsense"
    assert answer.json()["errors"][0]["detail"].startswith("unknown parameter; known: ")


async def test_a_repeated_parameter_is_refused(client):
    answer = await client.get("/board?dataset=sample&dataset=other")
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"] == [{"pointer": "/query/dataset", "detail": "give it once"}]


async def test_a_stranger_learns_nothing_of_the_parameters(client):
    answer = await client.get("/keys", params={"nonsense": "1"}, headers={"Authorization": "Bearer nobody"})
    assert answer.status_code == 401


async def test_a_page_ignores_what_other_sites_add_to_links(client):
    assert (await client.get("/dashboard/board?utm_source=mail")).status_code != 422
