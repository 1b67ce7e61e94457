"""Following an evaluation, reading it, ending it."""

from __future__ import annotations

import csv
import io
import json
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
from sqlalchemy import delete, event, func, update

from tests.app.evaluations.conftest import create_evaluation
from unveil.app.db.tables import Account, Cell, DashboardSession, Token
from unveil.app.evaluations import routes
from unveil.app.evaluations.sse import StreamLimiter

SMALL = {"schemes": [{"name": "tanaka"}], "attacks": [{"name": "none"}, {"name": "brute-force"}], "keys": 1}


def read_events(client, url, last=None):
    """Every event up to the end of the stream: (id, type, data)."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    found = []
    with client.stream("GET", url, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        event = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name in ("id", "event", "data"):
                event[name] = value
            elif not line and event:
                found.append((int(event["id"]), event["event"], json.loads(event["data"])))
                event = {}
    return found


@contextmanager
def recorded_statements(service):
    """The statements of what is done meanwhile."""
    engine, said = service.app.state.app_state.engine.sync_engine, []

    def listen(connection, cursor, statement, *_):
        said.append(statement)

    event.listen(engine, "before_cursor_execute", listen)
    try:
        yield said
    finally:
        event.remove(engine, "before_cursor_execute", listen)


def test_an_evaluation_is_followed_to_its_end_and_read(client, run_cells):
    body = create_evaluation(client)
    read = []
    reader = threading.Thread(target=lambda: read.extend(read_events(client, body["links"]["events"])))
    reader.start()
    run_cells(body)
    reader.join()
    done = client.get(body["links"]["self"]).json()
    assert done["status"] == "succeeded"
    assert done["progress"]["fraction"] == 1
    assert done["progress"]["done"] == 6

    ids = [id for id, _, _ in read]
    assert ids == list(range(1, len(ids) + 1))
    assert read[-1][1:] == ("status", {"status": "succeeded", "done": 6, "total": 6, "fraction": 1.0})
    cells = [(data["cell"], data["status"]) for _, type, data in read if type == "cell"]
    assert cells == [(cell["id"], status) for cell in body["cells"] for status in ("running", "succeeded")]
    middle = ids[len(ids) // 2]
    assert read_events(client, body["links"]["events"], last=middle) == [event for event in read if event[0] > middle]
    over = client.get(body["links"]["events"], headers={"Last-Event-ID": str(ids[-1])})
    assert over.status_code == 204

    verdicts = {verdict["scheme"]["name"]: verdict for verdict in done["verdicts"]}
    assert list(verdicts) == ["pixelwise", "tanaka"]
    assert verdicts["tanaka"]["paper"] == {"fr": "robust", "itn": "not robust", "gan": "not robust"}
    fr = done["cells"][1]
    assert fr["result"]["paper_ssim"] == 0.4646
    assert fr["result"]["ssim"]["mode"] == "rgb7"
    assert fr["result"]["ssim"]["ci_low"] < fr["result"]["ssim"]["mean"] < fr["result"]["ssim"]["ci_high"]
    brute = done["cells"][5]["result"]
    assert (brute["ssim"], round(brute["key_space_bits"], 3), brute["effective_bits"]) == (None, 594.277, 256)

    assert len(fr["samples"]) == 2
    for name in ("plain", "protected", "reconstructed"):
        image = client.get(fr["samples"][0][name])
        assert image.headers["content-type"] == "image/png"
        assert image.content.startswith(b"\x89PNG")
    scores = list(csv.DictReader(io.StringIO(client.get(fr["links"]["scores"]).text)))
    assert list(scores[0]) == ["index", "ssim", "psnr", "rank", "vif"]
    assert len(scores) == fr["result"]["ssim"]["n"]
    assert client.get(fr["links"]["curve"]).json() == {}


def test_an_unchanged_evaluation_is_not_sent_again(client, runtime, run_cells):
    body = create_evaluation(client, **SMALL)
    first = client.get(body["links"]["self"])
    same = client.get(body["links"]["self"], headers={"If-None-Match": first.headers["ETag"]})
    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["ETag"] == first.headers["ETag"]
    run_cells(body)
    changed = client.get(body["links"]["self"], headers={"If-None-Match": first.headers["ETag"]})
    assert changed.status_code == 200
    assert "Retry-After" in first.headers
    assert "Retry-After" not in changed.headers


def test_an_evaluation_is_sent_again_where_other_rules_come_to_its_verdicts(client, monkeypatch):
    body = create_evaluation(client, **SMALL)
    etag = client.get(body["links"]["self"]).headers["ETag"]
    monkeypatch.setattr(routes, "_COMPUTED_BY_DIGEST", "later")
    assert client.get(body["links"]["self"], headers={"If-None-Match": etag}).status_code == 200


def test_evaluations_are_listed_newest_first_in_pages(client):
    ids = [create_evaluation(client, **SMALL)["id"] for _ in range(3)]
    first = client.get("/evaluations", params={"limit": 2}).json()
    rest = client.get("/evaluations", params={"limit": 2, "cursor": first["next"]}).json()
    assert [item["id"] for item in first["items"] + rest["items"]] == ids[::-1]
    assert rest["next"] is None
    assert "cells" not in first["items"][0]


def test_a_page_is_read_a_few_evaluations_at_a_time(service, client, run_cells):
    """No cell of a page is held together with all others: an evaluation may have a thousand."""
    bodies = [create_evaluation(client, **SMALL) for _ in range(9)]
    run_cells(bodies[4])
    with recorded_statements(service) as said:
        heads = client.get("/evaluations").json()["items"]
    assert len([statement for statement in said if "FROM cells" in statement]) == 3
    wanted = [client.get(body["links"]["self"]).json() for body in reversed(bodies)]
    for head, whole in zip(heads, wanted, strict=True):
        assert {name: head[name] for name in ("id", "verdicts")} == {name: whole[name] for name in ("id", "verdicts")}
        assert head["progress"]["done"] == whole["progress"]["done"]
    assert heads[4]["verdicts"][0]["verdict"] != "inconclusive"


def test_a_list_is_filtered(client):
    create_evaluation(client, **{**SMALL, "name": "First"})
    create_evaluation(client, **{**SMALL, "name": "second %", "schemes": [{"name": "tanaka"}, {"name": "ele"}]})
    both = ["second %", "First"]
    for params, expected in (
        ({}, both), ({"q": "FIRST"}, ["First"]), ({"q": "%"}, ["second %"]), ({"q": "none"}, []),
        ({"scheme": "ele"}, ["second %"]), ({"scheme": "tanaka"}, both), ({"status": "succeeded"}, []),
        ({"status": "queued", "scheme": "ele"}, ["second %"]), ({"dataset": "sample"}, both), ({"dataset": "x"}, []),
    ):  # fmt: skip
        first = client.get("/evaluations", params={**params, "limit": 1}).json()
        rest = client.get("/evaluations", params={**params, "cursor": first["next"]}).json() if first["next"] else first
        names = [item["name"] for item in [*first["items"], *(rest["items"] if first["next"] else [])]]
        assert (params, names) == (params, expected)


def test_a_name_tags_and_notes_are_edited_and_found(client, run_cells):
    body = create_evaluation(client, **SMALL)
    other = create_evaluation(client, **SMALL)
    run_cells(body)
    here, before = body["links"]["self"], client.get(body["links"]["self"])
    assert (before.json()["tags"], before.json()["notes"]) == ([], "")
    edit = {"name": "final & <b>", "tags": [" paper ", "a_b", "paper"], "notes": "<i>first</i>\r\nsecond\n"}
    edited = client.patch(here, json=edit)
    assert edited.status_code == 200
    after = client.get(here, headers={"If-None-Match": before.headers["ETag"]})
    assert after.headers["ETag"] == edited.headers["ETag"]
    expected = {"name": "final & <b>", "tags": ["paper", "a_b"], "notes": "<i>first</i>\nsecond"}
    assert {field: after.json()[field] for field in expected} == expected
    assert after.json()["settings"]["name"] == "final & <b>", "the settings create the same evaluation again"
    assert client.patch(here, json={"tags": None, "notes": "third"}).json()["tags"] == ["paper", "a_b"]
    for params, ids in (
        ({"tag": "paper"}, [body["id"]]), ({"tag": "pape"}, []), ({"q": "A_B"}, [body["id"]]),
        ({"q": "HIRD"}, [body["id"]]), ({"q": "aXb"}, []), ({}, [other["id"], body["id"]]),
    ):  # fmt: skip
        listed = client.get("/evaluations", params=params).json()["items"]
        assert (params, [item["id"] for item in listed]) == (params, ids)
    assert listed[1]["tags"] == ["paper", "a_b"]
    page = client.get(f"{here}/report.html").text
    assert "paper, a_b" in page
    assert client.patch(here, json={"tags": [], "notes": ""}).json()["tags"] == []
    assert "Notes of the auditor" not in client.get(f"{here}/report.html").text


def test_notes_are_text_in_reports(client, run_cells):
    body = create_evaluation(client, **SMALL)
    run_cells(body)
    here = body["links"]["self"]
    client.patch(here, json={"tags": ["<u>"], "notes": "<script>x</script>\n# [a](b)"})
    page = client.get(f"{here}/report.html").text
    assert "&lt;script&gt;x&lt;/script&gt;" in page
    assert "&lt;u&gt;" in page
    assert "<script" not in page
    assert "\\# \\[a\\](b)" in client.get(f"{here}/report.md").text
    assert client.get(f"{here}/report.json").json()["tags"] == ["<u>"]


def test_an_edit_that_cannot_be_made_says_why(client):
    body = create_evaluation(client, **SMALL)
    for edit, pointer, reason in (
        ({}, "", "names no change"),
        ({"title": "x"}, "/title", "unknown field"),
        ({"name": ""}, "/name", "needs 1 or more characters"),
        ({"name": "x" * 201}, "/name", "takes at most 200 characters"),
        ({"name": "a\nb"}, "/name", "must be one line"),
        ({"tags": ["a,b"]}, "/tags/0", "no comma"),
        ({"tags": [" "]}, "/tags/0", "must hold text"),
        ({"tags": ["x" * 51]}, "/tags/0", "takes at most 50 characters"),
        ({"tags": [str(n) for n in range(21)]}, "/tags", "takes at most 20 entries"),
        ({"notes": "x" * 10_001}, "/notes", "takes at most 10000 characters"),
        ({"notes": "a\0b"}, "/notes", "must be printable text"),
    ):
        answer = client.patch(body["links"]["self"], json=edit)
        assert answer.status_code == 422
        (error,) = answer.json()["errors"]
        assert error["pointer"] == pointer
        assert reason in error["detail"]
    assert client.get(body["links"]["self"]).json()["name"] == body["name"]


def test_a_list_reads_the_results_of_an_ended_evaluation_once(client, runtime, run_cells):
    run_cells(create_evaluation(client, **SMALL))
    verdicts = client.get("/evaluations").json()["items"][0]["verdicts"]
    with runtime.sessions.begin() as session:
        session.execute(update(Cell).values(result=None))
    assert client.get("/evaluations").json()["items"][0]["verdicts"] == verdicts


def test_cancelling_twice_is_fine(client, runtime, run_cells):
    body = create_evaluation(client, **SMALL)
    cancel = body["links"]["cancel"]
    answer = client.post(cancel)
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert {cell["status"] for cell in answer.json()["cells"]} == {"cancelled"}
    again = client.post(cancel)
    assert (again.status_code, again.json(), again.headers["Location"]) == (202, answer.json(), body["links"]["self"])
    run_cells(body)  # the messages still come
    assert client.get(body["links"]["self"]).json()["status"] == "cancelled"


def test_what_was_cancelled_is_not_counted_as_done(client, run_cells):
    body = create_evaluation(client)
    run_cells({"cells": body["cells"][:2]})
    ended = client.post(body["links"]["cancel"]).json()
    assert ended["status"] == "cancelled"
    told = {"done": 2, "total": 6, "fraction": 0.3333}
    assert told.items() <= ended["progress"].items()
    assert read_events(client, body["links"]["events"])[-1][1:] == ("status", {"status": "cancelled", **told})


def test_an_evaluation_that_has_succeeded_cannot_be_cancelled(client, runtime, run_cells):
    body = create_evaluation(client, **SMALL)
    run_cells(body)
    assert client.get(body["links"]["self"]).json()["status"] == "succeeded"
    answer = client.post(body["links"]["cancel"])
    assert (answer.status_code, answer.json()["code"]) == (409, "evaluation_ended")


def test_a_running_evaluation_is_asked_to_stop_and_asked_again(client, runtime):
    from unveil.worker import cells, jobs

    body = create_evaluation(client, **SMALL)
    held = cells.claim(runtime, body["cells"][0]["id"])
    with runtime.sessions.begin() as session:
        session.execute(update(Cell).where(Cell.id == held.lease.id).values(phase="epoch 3 of 40, 12 min left"))
    assert client.get(body["links"]["self"]).json()["cells"][0]["phase"] == "epoch 3 of 40, 12 min left"
    for _ in range(2):
        answer = client.post(body["links"]["cancel"])
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelling")
    assert client.delete(body["links"]["self"]).json()["code"] == "evaluation_running"
    jobs.release(held)
    ended = client.get(body["links"]["self"]).json()
    assert (ended["status"], ended["cells"][0]["phase"]) == ("cancelled", None)
    read = read_events(client, body["links"]["events"])
    assert [data["status"] for _, type, data in read if type == "status"] == [
        "queued", "running", "cancelling", "cancelled",
    ]  # fmt: skip


def test_an_ended_evaluation_is_deleted_with_all_that_hangs_on_it(client, runtime, run_cells):
    from sqlalchemy import func, select

    from unveil.app.db.tables import Base

    body = create_evaluation(client, **SMALL)
    run_cells(body)
    assert client.delete(body["links"]["self"]).status_code == 204
    assert client.get(body["links"]["self"]).status_code == 404
    with runtime.sessions() as session:
        for name in ("cells", "samples", "scores", "curves", "events"):
            assert session.scalar(select(func.count()).select_from(Base.metadata.tables[name])) == 0


def test_what_belongs_to_another_account_is_not_there(client, sign_in, run_cells):
    body = create_evaluation(client, **SMALL)
    run_cells(body)
    body = client.get(body["links"]["self"]).json()
    here, cell = body["links"]["self"], body["cells"][0]
    stranger = sign_in("stranger")
    paths = [
        here, f"{here}/events", f"{here}/report.html", f"{here}/report.zip", cell["links"]["curve"],
        cell["links"]["scores"], cell["samples"][0]["plain"],
    ]  # fmt: skip
    for path in paths:
        assert client.get(path).status_code in (200, 204), path
        assert stranger.get(path).status_code == 404, path
    assert stranger.get(here, headers={"If-None-Match": "*"}).status_code == 404
    assert stranger.post(f"{here}/cancel").status_code == 404
    assert stranger.patch(here, json={"name": "mine"}).status_code == 404
    assert stranger.delete(here).status_code == 404
    assert stranger.get("/evaluations").json()["items"] == []
    own = create_evaluation(stranger, **SMALL)["id"]
    assert stranger.get(f"/evaluations/{own}/cells/{cell['id']}/curve").status_code == 404


@pytest.mark.parametrize("id", ["ev_" + "0" * 32, "ev_1", "%00", "ev_%00", "ev_" + "0" * 31 + "%C3%A9"])
def test_an_unknown_id_is_not_found_on_every_route(client, id):
    here = f"/evaluations/{id}"
    for path in ("", "/events", "/report.json", "/cells/cell_1/curve", "/cells/cell_1/samples/0/plain.png"):
        answer = client.get(here + path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), path
    assert client.post(f"{here}/cancel").status_code == 404
    assert client.patch(here, json={"name": "x"}).status_code == 404
    assert client.delete(here).status_code == 404


def test_odd_requests_have_their_answers(client, run_cells):
    body = create_evaluation(client, **SMALL)
    here, cell = body["links"]["self"], body["cells"][0]["id"]
    assert client.get(f"{here}/report.exe").status_code in (404, 422)
    assert client.get(f"{here}/events", headers={"Last-Event-ID": "-1"}).status_code == 422
    assert client.get(f"{here}/events", headers={"Last-Event-ID": "9" * 30}).status_code == 422
    assert client.get(f"{here}/cells/{cell}/samples/99999999999/plain.png").status_code in (404, 422)
    assert client.get(f"{here}/cells/{cell}/samples/0/secret.png").status_code in (404, 422)


def test_an_account_holds_so_many_streams_and_gets_them_back(service, client):
    service.app.state.streams = StreamLimiter(1)
    events = create_evaluation(client)["links"]["events"]
    with client.stream("GET", events) as first:
        lines = first.iter_lines()  # a dropped iterator would close the stream
        next(lines)
        refused = client.get(events)
        assert refused.status_code == 429
        assert refused.json()["code"] == "too_many_streams"
        assert refused.headers["Retry-After"] == "5"
    for _ in range(1000):
        with client.stream("GET", events) as again:
            if again.status_code == 200:
                return
        time.sleep(0.05)
    pytest.fail("the closed stream was never given back")


def test_head_of_a_stream_that_goes_on_is_answered_at_once(client):
    address = f"/evaluations/{create_evaluation(client)['id']}/events"
    for _ in range(40):  # more than may be open at once
        answer = client.head(address)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-type"].startswith("text/event-stream")


def test_a_list_reads_no_wrapped_key_of_a_cell(service, client):
    create_evaluation(client)
    with recorded_statements(service) as said:
        assert client.get("/evaluations").json()["items"]
    assert any("FROM cells" in statement for statement in said)
    assert not any("cells.checkpoint_wrapped_key" in statement for statement in said)


@pytest.mark.parametrize(
    "end",
    [
        update(Account).values(revoked_at=func.clock_timestamp()),
        update(Token).values(revoked_at=func.clock_timestamp()),
        update(Token).values(scopes=["encrypt"]),
        delete(DashboardSession),
    ],
    ids=["account", "token", "scope", "own"],
)
def test_a_stream_ends_with_the_rights_of_its_reader(client, runtime, end):
    body = create_evaluation(client)
    token = client.headers["Authorization"].removeprefix("Bearer ")
    with httpx.Client(base_url=client.base_url, headers={"Origin": str(client.base_url)}) as browser:
        assert browser.post("/sign-in", data={"token": token}).status_code == 303
        assert_stream_ends(browser, body["links"]["events"], lambda: _execute(runtime, end))


def test_a_stream_ends_with_its_token(client, runtime):
    gone = update(Token).values(revoked_at=func.clock_timestamp())
    assert_stream_ends(client, create_evaluation(client)["links"]["events"], lambda: _execute(runtime, gone))


def _execute(runtime, statement):
    with runtime.sessions.begin() as session:
        session.execute(statement)


def assert_stream_ends(reader, events, end):
    with reader.stream("GET", events) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("retry")
        end()
        for _ in lines:  # a stream that went on would run into the time-out of the test
            pass
