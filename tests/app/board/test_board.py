"""GET /board: the worst case over the finished evaluations of an account, one row for each scheme and its settings."""

from __future__ import annotations

import csv
import io
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update

from tests.app.board.conftest import DATASET, TANAKA, breaking, leaking
from tests.app.service import RunningService
from tests.factories import make_account, make_result
from tests.models.core.test_cell_result import UTILITY
from unveil.app.board import service as board_service
from unveil.app.db.ids import new_id
from unveil.app.db.tables import Account, BoardEntry, Cell, Evaluation
from unveil.models.catalog import flatten_settings, make_scheme
from unveil.worker.runtime import Runtime

pytestmark = pytest.mark.anyio


@pytest.fixture
async def owner(client: httpx.AsyncClient, runtime: Runtime) -> str:
    with runtime.sessions() as session:
        return session.scalars(select(Account.id).where(Account.name == "owner")).one()


async def get_board(client: httpx.AsyncClient, **params: Any) -> dict[str, Any]:
    answer = await client.get("/board", params=params)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_an_account_without_evaluations_sees_the_papers_rows_alone(client):
    board = await get_board(client)
    assert (board["rows"], board["dataset"], board["datasets"]) == ([], None, [])
    tanaka = next(row for row in board["paper"] if row["scheme"]["name"] == "tanaka")
    assert tanaka["by_threat_model"]["ciphertext-only"] == {"verdict": "robust", "attack": "fr", "ssim": 0.1079}
    assert (await get_board(client, dataset="elsewhere"))["rows"] == []


async def test_a_scheme_that_lacks_a_trained_part_has_no_row(client, owner, finish):
    finish(owner, {"fr": leaking("fr", 0.9)}, scheme={"name": "minusface"})
    finish(owner, {"fr": leaking("fr", 0.4)})
    board = await get_board(client)
    assert [row["scheme"]["name"] for row in board["rows"]] == ["tanaka"]
    assert board["pending"] == 0


async def test_a_row_is_the_worst_case_over_all_evaluations(client, owner, finish):
    first, _ = finish(owner, {"fr": leaking("fr", 0.9), "known-plaintext": leaking("known-plaintext", 0.4)})
    second, (_, recovery) = finish(owner, {"fr": leaking("fr", 0.5), "key-recovery": breaking("key-recovery", 2, 4.0)})
    third, _ = finish(owner, {"key-recovery": breaking("key-recovery", 16, 1.0)}, seed=7)
    board = await get_board(client)
    assert (board["dataset"], board["dataset_sha256"], board["profiles"]) == ("sample", DATASET, ["smoke"])
    (row,) = board["rows"]
    assert (row["scheme"], row["verdict"]) == (TANAKA, "broken")
    assert row["headline"] == "broken with 2 protected images in 4.0 s"
    assert row["cheapest_break"]["cell"] == recovery
    assert row["evaluations"] == [first, second, third]
    ciphertext_only = row["by_threat_model"]["ciphertext-only"]
    assert (ciphertext_only["verdict"], ciphertext_only["attack"]) == ("broken", "key-recovery")
    known = row["by_threat_model"]["known-plaintext"]
    assert (known["verdict"], known["identification"], known["evaluation"]) == ("leaks", 0.4, first)
    assert row["command"].startswith("unveil evaluate --schemes tanaka --attacks ")

    limited = await get_board(client, threat_model="known-plaintext")
    assert [(row["verdict"], row["cheapest_break"]) for row in limited["rows"]] == [("leaks", None)]
    assert {*limited["rows"][0]["by_threat_model"], *limited["paper"][0]["by_threat_model"]} == {"known-plaintext"}


async def test_settings_make_rows_of_their_own_and_keys_do_not(client, owner, finish):
    finish(owner, {"fr": leaking("fr")}, {**TANAKA, "key_id": "key_1"})
    finish(owner, {"fr": leaking("fr")}, {**TANAKA, "key_id": "key_2"})
    finish(owner, {"fr": leaking("fr")}, {**TANAKA, "variant": "icce2018"})
    rows = (await get_board(client))["rows"]
    assert sorted((row["scheme"]["variant"], len(row["evaluations"])) for row in rows) == [
        ("icce2018", 1),
        ("paper", 2),
    ]
    assert all("key_id" not in row["scheme"] and "key_id" not in row["command"] for row in rows)


async def test_settings_that_a_profile_gives_are_named_by_the_profile(client, owner, finish):
    for profile in ("quick", "paper"):
        scheme = flatten_settings(make_scheme("tn-gan", {}, profile))
        finish(owner, {"fr": leaking("fr")}, {**scheme, "key_id": "key_1"}, profile=profile)
    scheme = flatten_settings(make_scheme("tn-gan", {"epochs": 7}, "quick"))
    finish(owner, {"fr": leaking("fr")}, scheme, profile="quick")
    rows = (await get_board(client))["rows"]
    assert sorted(row["label"] for row in rows) == ["tn-gan", "tn-gan (epochs=7), quick", "tn-gan, quick"]


async def test_without_a_finding_the_strongest_profile_decides(client, owner, finish):
    nothing = leaking("fr", 0.002)
    finish(owner, {"fr": nothing}, profile="quick")
    finish(owner, {"fr": nothing}, profile="smoke")
    board = await get_board(client)
    assert board["profiles"] == ["smoke", "quick"]
    assert [(row["verdict"], row["profile"]) for row in board["rows"]] == [("inconclusive", "quick")]
    assert [row["profile"] for row in (await get_board(client, profile="smoke"))["rows"]] == ["smoke"]
    assert (await get_board(client, profile="paper"))["rows"] == []
    finish(owner, {"fr": leaking("fr", 0.9)}, profile="smoke")
    assert [(row["verdict"], row["profile"]) for row in (await get_board(client))["rows"]] == [("leaks", "smoke")]


async def test_the_utility_of_the_strongest_profile_counts(client, owner, finish, runtime):
    for profile, accuracy in (("quick", 0.8), ("smoke", 0.3)):
        id, _ = finish(owner, {"fr": leaking("fr")}, profile=profile)
        protected = {**UTILITY["protected"], "top1": accuracy}
        with runtime.sessions.begin() as session:
            session.add(
                Cell(
                    id=new_id("cell"), evaluation_id=id, position=9, scheme=TANAKA, attack={"name": "utility"},
                    threat_model="", status="succeeded", result={**UTILITY, "protected": protected},
                )
            )  # fmt: skip
    (row,) = (await get_board(client))["rows"]
    assert row["utility"]["protected"] == 0.8
    (row,) = (await get_board(client, profile="smoke"))["rows"]
    assert row["utility"]["protected"] == 0.3


async def test_datasets_are_distinguished_by_their_hash(client, owner, finish):
    finish(owner, {"fr": leaking("fr")})
    finish(owner, {"fr": leaking("fr", dataset_sha256="e" * 64)}, dataset_name="other")
    finish(owner, {"fr": leaking("fr", dataset_sha256="e" * 64)}, dataset_name="renamed")
    board = await get_board(client)
    assert [(each["dataset"], each["evaluations"]) for each in board["datasets"]] == [("renamed", 2), ("sample", 1)]
    assert board["dataset_sha256"] == "e" * 64
    for name in ("sample", DATASET):
        assert (await get_board(client, dataset=name))["dataset_sha256"] == DATASET


async def test_results_of_earlier_rules_and_other_accounts_stay_off_the_board(client, owner, finish, runtime):
    finish(owner, {"fr": make_result(0.95, verdict="broken", dataset_sha256=DATASET)})  # without evidence
    finish(make_account(runtime.sessions, "stranger"), {"fr": leaking("fr")})
    assert (await get_board(client))["rows"] == []


async def test_entries_of_other_rules_are_computed_again_and_deleted_evaluations_leave(client, owner, finish, runtime):
    id, _ = finish(owner, {"fr": leaking("fr")})
    assert len((await get_board(client))["rows"]) == 1
    with runtime.sessions.begin() as session:
        session.execute(update(BoardEntry).values(computed_by="rules 1", value={}))
        session.execute(update(Evaluation).values(board_computed_by="rules 1"))
    assert [row["verdict"] for row in (await get_board(client))["rows"]] == ["leaks"]
    assert (await client.delete(f"/evaluations/{id}")).status_code == 204
    assert (await get_board(client))["rows"] == []
    with runtime.sessions() as session:
        assert session.scalars(select(BoardEntry.evaluation_id)).all() == []


async def test_evaluations_join_a_few_at_a_time(client, owner, finish, monkeypatch):
    monkeypatch.setattr(board_service, "_MAX_ADDED_PER_READ", 2)
    ids = [finish(owner, {"fr": leaking("fr")})[0] for _ in range(5)]
    assert [(await get_board(client))["pending"] for _ in range(3)] == [3, 1, 0]
    assert (await get_board(client))["rows"][0]["evaluations"] == ids


async def test_the_board_is_exported(client, owner, finish):
    finish(owner, {"key-recovery": breaking("key-recovery", 2, 4.0)})
    lines = list(csv.DictReader(io.StringIO((await client.get("/board.csv")).text)))
    assert lines[0]["headline"] == "broken with 2 protected images in 4.0 s"
    assert {line["source"] for line in lines} == {"measured", "paper"}
    latex = (await client.get("/board.tex")).text
    assert "Tanaka's scheme & broken & 0.99" in latex
    assert latex.count("{") == latex.count("}")
    assert f"Dataset SHA-256 {DATASET}" in (await client.get("/board.bib")).text
    assert (await client.get("/board.pdf")).status_code == 422


async def test_the_board_needs_the_scope_read(service: RunningService):
    async with service.client(await service.create_account("writer", ["evaluate"])) as writer:
        assert (await writer.get("/board")).status_code == 403
        assert (await writer.get("/board.csv")).status_code == 403
