"""One JSON object a line: ids of what it is about, and never what a caller must keep to itself."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tests.sample_images import png
from unveil.app.observability.logging import bind_log_context, json_formatter


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(json_formatter())
    handler.addFilter(lambda record: record.name != "httpx")  # that is the caller
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


def find_entries(log: io.StringIO, message: str = "request") -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in log.getvalue().splitlines()]
    return [entry for entry in entries if entry["message"] == message]


@pytest.mark.anyio
async def test_a_request_is_one_line_with_its_id_its_account_and_what_it_names(service, client, log) -> None:
    answer = await client.get("/evaluations/ev_0197f3c2a5d17a3b8c4d5e6f708192a3/cells/cell_1/curve")
    (line,) = find_entries(log)
    assert line["request_id"] == answer.headers["X-Request-Id"]
    assert line["account_id"].startswith("acct_")
    assert (line["status"], line["route"]) == (404, "/evaluations/{evaluation_id}/cells/{cell_id}/curve")
    assert line["evaluation_id"] == "ev_0197f3c2a5d17a3b8c4d5e6f708192a3"
    assert "cell_id" not in line, "what does not look like an id is a caller's own text"


@pytest.mark.anyio
async def test_no_line_holds_a_token_a_code_a_key_or_a_picture(service, client, log) -> None:
    token = client.headers["Authorization"].removeprefix("Bearer ")
    made = (await client.post("/accounts", json={"name": "second", "scopes": ["read"]})).json()["token"]
    key = (await client.post("/keys", json={"scheme": "tanaka"})).json()["id"]
    material = (await client.get(f"/keys/{key}/material")).json()["material"]["permutation"]
    picture = png(3)
    await client.post("/encrypt", data={"key_id": key}, files={"images": ("a.png", picture)})
    await client.get("/sign-in", params={"code": "a-code-of-a-link", "next": "/"})
    await client.post("/keys", json={"scheme": "tanaka", "material": {"permutation": material, "reversed": [7] * 96}})
    await client.get("/keys", params={"token": token})
    text = log.getvalue()
    assert len(find_entries(log)) == 7
    for secret in (
        token, made, "a-code-of-a-link", ", ".join(map(str, material[:8])), base64.b64encode(picture).decode()[20:60],
    ):  # fmt: skip
        assert secret not in text


def test_what_a_worker_logs_of_a_job_names_the_job(log) -> None:
    with bind_log_context(account_id="acct_1", evaluation_id="ev_1", cell_id="cell_1", key_id=None):
        logging.getLogger("worker").info("attempt %d begins", 1)
    logging.getLogger("worker").info("attempt %d begins", 2)
    within, after = find_entries(log, "attempt 1 begins") + find_entries(log, "attempt 2 begins")
    assert {name: within.get(name) for name in ("account_id", "evaluation_id", "cell_id", "key_id")} == {
        "account_id": "acct_1", "evaluation_id": "ev_1", "cell_id": "cell_1", "key_id": None
    }  # fmt: skip
    assert "cell_id" not in after
