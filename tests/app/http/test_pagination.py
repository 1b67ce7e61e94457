"""Pages follow each other without a gap or a repeat, while rows come and go."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.anyio


async def test_pages_hold_every_row_once_newest_first(client):
    made = [(await client.post("/keys", json={"scheme": "tanaka"})).json()["id"] for _ in range(7)]
    seen, cursor = [], ""
    while True:
        answer = (await client.get(f"/keys?limit=3{cursor}")).json()
        seen += [item["id"] for item in answer["items"]]
        if answer["next"] is None:
            break
        cursor = f"&cursor={answer['next']}"
    assert seen == sorted(made, reverse=True)


@pytest.mark.parametrize("path", ["/evaluations", "/accounts", "/datasets"])
async def test_a_cursor_of_another_list_is_refused(client, path):
    for _ in range(2):
        await client.post("/keys", json={"scheme": "tanaka"})
    of_keys = (await client.get("/keys?limit=1")).json()["next"]
    answer = await client.get(f"{path}?cursor={of_keys}")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/query/cursor")


async def test_a_deleted_row_moves_no_page(client):
    made = sorted(
        [(await client.post("/keys", json={"scheme": "tanaka"})).json()["id"] for _ in range(4)], reverse=True
    )
    first = (await client.get("/keys?limit=2")).json()
    await client.delete(f"/keys/{made[1]}")
    second = (await client.get(f"/keys?limit=2&cursor={first['next']}")).json()
    assert [item["id"] for item in second["items"]] == made[2:]
    assert second["next"] is None
