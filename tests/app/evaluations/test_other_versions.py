"""What only another version knows, as amid an upgrade, is shown, reported and cancelled all the same."""

from __future__ import annotations

from itertools import product

import pytest
from sqlalchemy import select

from tests.app.evaluations.conftest import create_evaluation
from tests.factories import make_key_to_train
from unveil.app.db.tables import Cell, Evaluation, Key

SCHEME, ATTACK = {"name": "later-scheme", "rounds": 3}, {"name": "later-attack", "strength": 2}


@pytest.fixture
def unknown_version_evaluation(client, runtime, run_cells):
    """An evaluation of a known scheme, whose cells have ended, and of another; under a known attack and another."""
    body = create_evaluation(
        client,
        schemes=[{"name": "pixelwise", "key_mode": "same"}, {"name": "tanaka"}],
        attacks=[{"name": "none"}, {"name": "fr"}],
        keys=1,
    )
    run_cells({"cells": body["cells"][:2]})
    with runtime.sessions.begin() as session:
        evaluation = session.get_one(Evaluation, body["id"])
        key = make_key_to_train(runtime.sessions, runtime.keyring, evaluation.account_id, evaluation_id=evaluation.id)
        session.get_one(Key, key).scheme = SCHEME["name"]
        schemes, attacks = [body["cells"][0]["scheme"], SCHEME], [{"name": "none"}, ATTACK]
        evaluation.settings = {**evaluation.settings, "schemes": schemes, "attacks": attacks}
        cells = session.scalars(select(Cell).order_by(Cell.position)).all()
        for cell, (scheme, attack) in zip(cells, product(schemes, attacks), strict=True):
            cell.scheme, cell.attack = scheme, attack
    return body["id"]


def test_it_is_shown_and_reported(client, unknown_version_evaluation):
    shown = client.get(f"/evaluations/{unknown_version_evaluation}").json()
    assert [cell["attack"]["name"] for cell in shown["cells"]] == ["none", "later-attack"] * 2
    assert shown["verdicts"][1]["paper"] is None
    (key,) = shown["keys"]
    assert (key["scheme"], key["key_space_bits"]) == ("later-scheme", None)
    assert client.get("/evaluations").json()["items"][0]["verdicts"] == shown["verdicts"]
    assert client.get("/keys").json()["items"] == [key]
    reports = {
        form: client.get(f"/evaluations/{unknown_version_evaluation}/report.{form}")
        for form in ("html", "json", "csv", "md", "zip")
    }
    assert {form: report.status_code for form, report in reports.items()} == dict.fromkeys(reports, 200)
    for form in ("html", "md"):
        assert "later-attack (strength=2)" in reports[form].text
        assert "later-scheme (rounds=3)" in reports[form].text
    assert "--attacks none,later-attack:strength=2" in reports["md"].text
    for page in ("", *(f"/cells/{cell['id']}" for cell in shown["cells"])):
        assert client.get(f"/dashboard/evaluations/{unknown_version_evaluation}{page}").status_code == 200
    assert client.get("/dashboard/keys").status_code == 200


def test_it_is_cancelled(client, unknown_version_evaluation):
    answer = client.post(f"/evaluations/{unknown_version_evaluation}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert [cell["status"] for cell in client.get(f"/evaluations/{unknown_version_evaluation}").json()["cells"]] == [
        "succeeded", "succeeded", "cancelled", "cancelled",
    ]  # fmt: skip


def test_settings_beyond_the_limits_of_this_version_are_refused_when_they_are_run_again(client, runtime):
    body = create_evaluation(client, schemes=[{"name": "tanaka"}], attacks=[{"name": "none"}], keys=1)
    with runtime.sessions.begin() as session:
        evaluation = session.get_one(Evaluation, body["id"])
        evaluation.settings = {**evaluation.settings, "samples": 1000}
    again = client.post(f"/dashboard/evaluations/{body['id']}/run-again")
    assert again.status_code == 422
    assert "/samples: must be at most 64; got 1000" in again.text
