"""Somebody else's attack: its reconstructions are uploaded and scored like those of any attack."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy import select

from tests.app.evaluations.conftest import create_evaluation
from tests.app.evaluations.test_external import store_upload
from unveil.app.db.ids import new_id
from unveil.app.db.tables import Account, Dataset
from unveil.models.data.npz import save_npz
from unveil.models.data.sample import sample


def store_reconstructions(runtime, images, names=None) -> str:
    """The row and blob of an upload of kind `reconstructed`."""
    id = new_id("ds")
    data = replace(sample().take(0, len(images)), test=images, test_names=names)
    runtime.blobs.write_with(f"datasets/{id}.npz", partial(save_npz, data))
    with runtime.sessions.begin() as session:
        session.add(
            Dataset(
                id=id, account_id=session.scalars(select(Account.id)).one(), name="theirs", kind="reconstructed",
                train_count=0, test_count=len(images), width=images.shape[2], height=images.shape[1], labelled=False,
                classes=[], has_originals=False, blob=f"datasets/{id}.npz", pixel_bytes=1,
            )
        )  # fmt: skip
    return id


def test_submitted_reconstructions_are_scored_by_the_rules_of_every_attack(client, runtime, run_cells):
    target = {"name": "external", "dataset": store_upload(runtime, originals=True)}
    order = [*range(15, -1, -1)]
    theirs = store_reconstructions(runtime, sample().test[order], tuple(map(str, order)))
    attacks = [{"name": "none"}, {"name": "submitted", "dataset": theirs, "claims": "known-plaintext"}]
    body = create_evaluation(client, schemes=[target], attacks=attacks, dataset=None)
    run_cells(body)
    done = client.get(f"/evaluations/{body['id']}").json()
    cell = next(cell for cell in done["cells"] if cell["attack"]["name"] == "submitted")
    assert (cell["status"], cell["threat_model"], cell["requested"]) == ("succeeded", "known-plaintext", True)
    assert cell["result"]["ssim"]["mean"] == pytest.approx(1)
    assert cell["result"]["controls"] == {"positive": "passed", "negative": "passed"}
    assert any("claim" in note for note in cell["result"]["notes"])
    verdict = done["verdicts"][0]
    assert (verdict["verdict"], verdict["worst_attack"]) == ("broken", "submitted")
    assert verdict["because"].startswith("the submitted reconstructions show")
    for format in ("html", "json", "csv", "md", "zip"):
        report = client.get(f"/evaluations/{body['id']}/report.{format}")
        assert report.status_code == 200
        assert format == "zip" or "submitted" in report.text.lower()
    for page in ("", f"/cells/{cell['id']}"):
        assert "Submitted reconstructions" in client.get(f"/dashboard/evaluations/{body['id']}{page}").text
    assert client.post("/evaluations", json=body["settings"]).json()["settings"] == body["settings"]


def test_a_missing_reconstruction_is_named(client, runtime, run_cells):
    target = {"name": "external", "dataset": store_upload(runtime, originals=True)}
    theirs = store_reconstructions(runtime, sample().test[:15])
    body = create_evaluation(
        client, schemes=[target], attacks=[{"name": "submitted", "dataset": theirs}, {"name": "none"}], dataset=None
    )
    run_cells(body)
    cell = client.get(f"/evaluations/{body['id']}").json()["cells"][0]
    assert cell["status"] == "failed"
    assert "no reconstruction of 1 of 16 test images: '15'" in cell["error"]["detail"]


@pytest.mark.parametrize("dataset", [None, "ds_0", "PLAIN"])
def test_only_an_upload_of_reconstructions_can_be_submitted(client, runtime, dataset):
    own = store_upload(runtime, originals=False, kind="plain") if dataset == "PLAIN" else dataset
    attack = {"name": "submitted"} if own is None else {"name": "submitted", "dataset": own}
    target = {"name": "external", "dataset": store_upload(runtime, originals=True)}
    answer = client.post("/evaluations", json={"schemes": [target], "attacks": [attack], "profile": "smoke"})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/attacks/0/dataset"]


def test_it_needs_originals_their_size_and_the_key_of_the_attacked_images(client, runtime):
    whole = {"name": "submitted", "dataset": store_reconstructions(runtime, sample().test)}
    small = {"name": "submitted", "dataset": store_reconstructions(runtime, sample().test[:, :48, :48])}
    blind = {"name": "external", "dataset": store_upload(runtime, originals=False)}
    target = {"name": "external", "dataset": store_upload(runtime, originals=True)}
    body = create_evaluation(
        client, schemes=[blind, target, {"name": "tanaka"}], attacks=[{"name": "none"}, whole, small], dataset="sample"
    )
    reasons = {
        (cell["scheme"]["name"], cell["scheme"].get("dataset"), cell["attack"]["dataset"]): cell["reason"] or ""
        for cell in body["cells"]
        if cell["attack"]["name"] == "submitted"
    }
    assert "nothing can be scored" in reasons["external", blind["dataset"], whole["dataset"]]
    assert reasons["external", target["dataset"], whole["dataset"]] == ""
    assert "48x48, the originals 96x96" in reasons["external", target["dataset"], small["dataset"]]
    assert "`key_id`" in reasons["tanaka", None, whole["dataset"]]
