"""Every error of every kind is a problem document that says what to do, with the id of its request."""

from __future__ import annotations

import asyncio
import json
import logging
import signal

import pytest
from sqlalchemy.exc import OperationalError

from tests.app.service import run_service
from unveil.app.local.servers import Redis
from unveil.app.main import create_app
from unveil.app.observability.logging import json_formatter
from unveil.app.settings import Settings

pytestmark = pytest.mark.anyio


def is_problem(answer, status, code):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) == {"type", "title", "status", "detail", "code", "errors", "request_id"}
    assert body["status"] == status
    assert body["code"] == code
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


async def test_an_unknown_address(client):
    is_problem(await client.get("/nothing/here"), 404, "not_found")


async def test_a_method_that_the_address_does_not_take_lists_those_it_does(client):
    answer = await client.put("/keys")
    is_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize("media", ["application/json", "multipart/form-data; boundary=b"])
@pytest.mark.parametrize("path", ["/keys", "/encrypt", "/datasets"])
async def test_a_caller_who_hangs_up_is_no_mistake_of_ours(service, path, media):
    token = await service.create_account()
    headers = {"authorization": f"Bearer {token}", "content-type": media, "content-length": "1000"}
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": path, "raw_path": path.encode(),
        "scheme": "http", "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    arriving = [{"type": "http.request", "body": b"--b\r\n", "more_body": True}, {"type": "http.disconnect"}]
    answered = []

    async def receive():
        return arriving.pop(0) if len(arriving) > 1 else arriving[0]

    async def send(message):
        answered.append(message)

    await service.app(scope, receive, send)
    assert 400 <= answered[0]["status"] < 500, answered


@pytest.mark.parametrize("body", [b"{", b"", b"\xff\xfe", b"[" * 100_000])
async def test_a_body_that_is_not_json(client, body):
    answer = await client.post("/keys", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    is_problem(answer, answer.status_code, answer.json()["code"])


async def test_a_value_of_another_type_is_reported_in_words(client):
    body = {"schemes": "tanaka", "attacks": [{"name": "none"}], "seed": "x", "name": 5, "utility": "maybe"}
    errors = (await client.post("/evaluations", json=body)).json()["errors"]
    assert {error["pointer"]: error["detail"] for error in errors} == {
        "/schemes": 'must be a list; got "tanaka"',
        "/seed": 'must be an integer; got "x"',
        "/name": "must be text; got 5",
        "/utility": 'must be true or false; got "maybe"',
    }


async def test_a_wrong_field_is_named_by_its_pointer(client):
    answer = await client.post("/accounts", json={"name": "a", "scopes": ["read", "everything"], "more~/": 1})
    errors = is_problem(answer, 422, "invalid_request")["errors"]
    assert {error["pointer"] for error in errors} == {"/scopes/1", "/more~0~1"}
    assert "everything" in errors[0]["detail"] or "everything" in errors[1]["detail"]


async def test_the_error_for_an_unknown_field_states_what_to_do(client):
    body = is_problem(await client.post("/keys", json={"scheme": "tanaka", "speed": 9}), 422, "invalid_request")
    assert body["errors"] == [{"pointer": "/speed", "detail": "unknown field; remove it"}]


async def test_a_wrong_query_is_named_with_its_place(client):
    body = is_problem(await client.get("/keys?limit=500"), 422, "invalid_request")
    assert body["errors"][0]["pointer"] == "/query/limit"


@pytest.mark.parametrize("cursor", ["zz", "%00", "a" * 150, "!!!"])
async def test_a_foreign_cursor(client, cursor):
    body = is_problem(await client.get(f"/keys?cursor={cursor}"), 422, "invalid_request")
    assert body["errors"][0]["pointer"] == "/query/cursor"


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/keys/%00", "unknown_key"),
        ("DELETE", "/keys/%00", "unknown_key"),
        ("GET", "/datasets/ds_%00", "unknown_dataset"),
        ("GET", "/evaluations/%00/events", "unknown_evaluation"),
        ("DELETE", "/accounts/a%00", "unknown_account"),
    ],
)
async def test_nothing_is_at_an_address_with_a_nul(client, method, path, code):
    is_problem(await client.request(method, path), 404, code)


async def test_a_nul_in_a_body_is_refused(client):
    is_problem(await client.post("/keys", json={"scheme": "a\0b"}), 422, "unknown_scheme")


@pytest.mark.parametrize(
    "body",
    [
        b'{"scheme":"\\ud800"}',
        b'{"scheme":"tanaka","\\ud800":1}',
        b'{"scheme":"tanaka","params":{"\\ud800":"\\udfff"}}',
        b'{"scheme":"tanaka","params":{"variant":["\\ud800"]}}',
        b'{"scheme":"tanaka","params":{"block":1e999}}',
        b'{"scheme":"tanaka","params":{"block":NaN}}',
        b'{"scheme":"tanaka","material":{"\\ud800":1}}',
        b'{"scheme":"pixelwise","material":{"width":4,"height":4,"reversed":"\\ud800","orders":[]}}',
        b'{"scheme":"tanaka","material":{"permutation":[1e999],"reversed":[[]]}}',
        b'{"scheme":' + b"9" * 5000 + b"}",
        b'[{"scheme":"tanaka"}]',
        b"null",
    ],
)
async def test_strange_json_is_a_problem_and_no_failure(client, body):
    answer = await client.post("/keys", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    is_problem(answer, answer.status_code, answer.json()["code"])


async def test_a_custom_rule_has_its_own_error_message(client):
    answer = await client.post("/evaluations", json={"name": "a\nb", "schemes": [], "attacks": []})
    details = [error["detail"] for error in is_problem(answer, 422, "invalid_request")["errors"]]
    assert details[0].startswith("must be one line")


@pytest.mark.parametrize(
    "path", ["/keys", "/keys/{key}", "/datasets", "/schemes", "/health/live", "/docs", "/", "/nothing", "/encrypt"]
)
async def test_head_is_get_without_the_body(client, path):
    key = (await client.post("/keys", json={"scheme": "tanaka"})).json()["id"]
    got, head = [await client.request(method, path.format(key=key)) for method in ("GET", "HEAD")]
    own = {"x-request-id", "date"}
    if got.status_code >= 400:  # a problem names its request
        own.add("content-length")
    assert head.status_code == got.status_code
    assert head.content == b""
    assert {k: v for k, v in head.headers.items() if k not in own} == {
        k: v for k, v in got.headers.items() if k not in own
    }
    tag = got.headers.get("etag")
    if tag:
        assert (await client.head(path.format(key=key), headers={"If-None-Match": tag})).status_code == 304


@pytest.mark.parametrize(
    "type", ["", None, "multipart/form-data", "text/plain", "application/xml", "application/jsonp"]
)
async def test_a_body_of_another_content_type_is_not_parsed_as_json(client, type):
    headers = {"Idempotency-Key": "once"} | ({} if type is None else {"Content-Type": type})
    answer = await client.post("/keys", content=b'{"scheme":"tanaka"}', headers=headers)
    is_problem(answer, 415, "unsupported_media")


async def test_a_torn_multipart_body(client):
    answer = await client.post(
        "/encrypt", content=b"--x\r\nnonsense", headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    assert answer.status_code in (400, 422)
    is_problem(answer, answer.status_code, answer.json()["code"])


async def test_a_multipart_body_without_boundary(client):
    answer = await client.post("/encrypt", content=b"a", headers={"Content-Type": "multipart/form-data"})
    is_problem(answer, 400, "bad_request")


async def test_an_unhandled_error_is_logged_and_hidden(service, client, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("secret detail")

    monkeypatch.setattr("unveil.app.keys.service.list_keys", fail)
    with caplog.at_level(logging.ERROR):
        answer = await client.get("/keys")
    body = is_problem(answer, 500, "internal")
    assert "secret detail" not in answer.text
    assert "secret detail" in caplog.text
    assert body["request_id"] in body["detail"]


async def test_a_sane_request_id_is_kept_and_another_replaced(client):
    assert (await client.get("/keys", headers={"X-Request-Id": "order-17"})).headers["x-request-id"] == "order-17"
    assert (await client.get("/keys", headers={"X-Request-Id": "a b<c>"})).headers["x-request-id"].startswith("req_")


async def test_a_database_that_is_away_is_a_503_and_readiness_names_it(settings: Settings):
    away = settings.model_copy(update={"database_url": "postgresql://unveil@127.0.0.1:9/unveil"})
    async with run_service(away) as service, service.client("any") as client:
        answer = await client.get("/keys")
        is_problem(answer, 503, "unavailable")
        assert answer.headers["retry-after"] == "5"
        ready = await client.get("/health/ready")
        assert ready.status_code == 503
        parts = ready.json()["parts"]
        assert {name: part["ok"] for name, part in parts.items()} == {
            "database": False,
            "migrations": False,
            "broker": True,
            "blobs": True,
            "workers": False,
        }
        assert "127.0.0.1" not in ready.text
        assert (await client.get("/health/live")).status_code == 200
        assert 'unveil_component_up{component="database"} 0.0' in (await client.get("/metrics")).text


async def test_a_broker_that_is_away_is_a_503_where_it_is_needed_only(settings: Settings):
    away = settings.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"})
    async with run_service(away) as service, service.client(await service.create_account()) as client:
        assert (await client.get("/keys")).status_code == 200
        answer = await client.post(
            "/encrypt", files={"images": ("a.png", b"x", "image/png")}, data={"scheme": "tanaka"}
        )
        is_problem(answer, 503, "unavailable")
        assert "retry-after" in answer.headers
        assert (await client.get("/health/ready")).json()["parts"]["broker"]["ok"] is False


async def test_a_broker_that_hangs_holds_up_no_order(settings: Settings, tmp_path):
    order = {"schemes": [{"name": "tanaka"}], "attacks": [{"name": "none"}], "dataset": "sample", "profile": "smoke"}
    with Redis(tmp_path) as server:
        hanging = settings.model_copy(update={"redis_url": server.url})
        async with run_service(hanging) as service, service.client(await service.create_account()) as client:
            service.app_state.redis.connection_pool.connection_kwargs["socket_timeout"] = 0.5  # instead of seconds
            server.child.popen.send_signal(signal.SIGSTOP)
            try:
                async with asyncio.timeout(20):
                    answer = await client.post("/evaluations", json=order)
            finally:
                server.child.popen.send_signal(signal.SIGCONT)
    assert answer.status_code == 202


async def test_a_database_error_reveals_no_values(service):
    async with service.app_state.sessions() as session:
        from sqlalchemy import text

        with pytest.raises(Exception, match="hidden") as failure:
            await session.execute(text("SELECT :hash FROM nowhere"), {"hash": "the-secret"})
    assert "the-secret" not in str(failure.value)
    assert not isinstance(failure.value, OperationalError)


def test_a_log_line_is_one_json_object_without_empty_fields():
    record = logging.makeLogRecord({"name": "app", "levelname": "INFO", "msg": "done in %s", "args": ("1 s",)})
    record.status = 200
    entry = json.loads(json_formatter().format(record))
    assert entry["message"] == "done in 1 s"
    assert entry["status"] == 200
    assert "account_id" not in entry


def test_the_openapi_document_gives_every_route_its_problems():
    document = create_app(Settings()).openapi()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if not operation.get("security"):
                continue
            responses = operation["responses"]
            for status in ("401", "403", "422", "503"):
                assert "application/problem+json" in responses[status]["content"], f"{method} {path} {status}"


def test_every_operation_has_a_name_of_its_own():
    document = create_app(Settings()).openapi()
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))
    assert "create_key" in names
