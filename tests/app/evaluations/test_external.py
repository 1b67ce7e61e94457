"""An auditor's own ciphertexts: uploaded as protected images, attacked with what came along."""

from __future__ import annotations

from functools import partial

import pytest
from sqlalchemy import select

from tests.app.evaluations.conftest import create_evaluation
from unveil.app.db.ids import new_id
from unveil.app.db.tables import Account, Dataset
from unveil.models import catalog
from unveil.models.data.image_dataset import ImageDataset
from unveil.models.data.npz import save_npz
from unveil.models.data.sample import sample
from unveil.models.schemes.base import seed_secret


def store_upload(runtime, *, originals: bool, kind: str = "protected") -> str:
    """The row and blob that an upload leaves behind."""
    plain, id = sample().take(12, 16), new_id("ds")
    scheme, secret = catalog.make_scheme("pixelwise", {}), seed_secret(bytes(32))
    data = ImageDataset(
        id,
        scheme.protect(plain.train, secret, 16),
        plain.train_labels,
        scheme.protect(plain.test, secret),
        plain.test_labels,
        plain.classes,
        plain.train if originals else None,
        plain.test if originals else None,
    )
    runtime.blobs.write_with(f"datasets/{id}.npz", partial(save_npz, data))
    with runtime.sessions.begin() as session:
        owner = session.scalars(select(Account.id)).one()
        session.add(
            Dataset(
                id=id, account_id=owner, name="mine", kind=kind, train_count=12, test_count=16, width=96, height=96,
                labelled=True, classes=list(plain.classes), has_originals=originals, blob=f"datasets/{id}.npz",
                pixel_bytes=1,
            )
        )  # fmt: skip
    return id


def test_ciphertexts_with_originals_are_scored_and_need_no_other_dataset(client, runtime, run_cells):
    id = store_upload(runtime, originals=True)
    body = create_evaluation(client, schemes=[{"name": "external", "dataset": id}], dataset=None)
    run_cells(body)
    done = client.get(f"/evaluations/{body['id']}").json()
    cells = {cell["attack"]["name"]: cell for cell in done["cells"]}
    assert done["status"] == "succeeded"
    assert cells["fr"]["result"]["ssim"]["n"] == 16
    assert cells["fr"]["result"]["controls"] == {"positive": "passed", "negative": "passed"}
    assert cells["brute-force"]["status"] == "not_applicable"
    assert "cannot be counted" in cells["brute-force"]["reason"]
    assert done["verdicts"][0]["paper"] is None
    for format in ("html", "json", "csv", "md", "zip"):
        assert client.get(f"/evaluations/{body['id']}/report.{format}").status_code == 200


def test_without_originals_there_are_samples_and_a_word_on_what_to_upload(client, runtime, run_cells):
    body = create_evaluation(
        client, schemes=[{"name": "external", "dataset": store_upload(runtime, originals=False)}], dataset=None
    )
    run_cells(body)
    done = client.get(f"/evaluations/{body['id']}").json()
    fr = done["cells"][1]
    assert fr["status"] == "succeeded"
    assert fr["result"]["ssim"] is None
    assert any("upload `originals`" in note for note in fr["result"]["notes"])
    assert fr["samples"]
    assert client.get(fr["samples"][0]["reconstructed"]).headers["content-type"] == "image/png"
    assert client.get(fr["samples"][0]["protected"]).status_code == 200
    assert done["verdicts"][0]["verdict"] == "inconclusive"
    for format in ("html", "json", "csv", "md", "zip"):
        assert client.get(f"/evaluations/{body['id']}/report.{format}").status_code == 200


def test_an_upload_keeps_its_name_after_it_was_deleted(client, runtime, run_cells):
    id = store_upload(runtime, originals=True)
    entry = {"name": "external", "dataset": id}
    body = create_evaluation(client, schemes=[entry], dataset=None)
    assert body["cells"][0]["scheme"] == {**entry, "dataset_name": "mine"}
    again = client.post("/evaluations", json=body["settings"])
    assert again.json()["settings"] == body["settings"]
    client.post(again.json()["links"]["cancel"])
    run_cells(body)
    assert client.delete(f"/datasets/{id}").status_code == 204
    for format in ("html", "csv", "md"):
        text = client.get(f"/evaluations/{body['id']}/report.{format}").text
        assert f"(mine, {id})" in text.replace("\\_", "_")
    command = client.get(f"/evaluations/{body['id']}/report.json").json()["command"]
    assert f"--schemes external:dataset={id} " in command, "a name is nothing to order by"


def test_an_evaluation_of_uploads_alone_names_no_dataset(client, runtime):
    entry = {"name": "external", "dataset": store_upload(runtime, originals=True)}
    settings = create_evaluation(client, schemes=[entry], dataset="sample")["settings"]
    assert (settings["dataset"], settings["dataset_name"]) == (None, None)
    both = create_evaluation(client, schemes=[entry, {"name": "tanaka"}], dataset="sample")["settings"]
    assert both["dataset"] == "sample"


def test_so_is_an_upload_of_plain_images(client, runtime, run_cells):
    mine, public = (store_upload(runtime, originals=False, kind="plain") for _ in range(2))
    body = create_evaluation(client, schemes=[{"name": "tanaka"}], dataset=mine, public_dataset=public)
    told = body["settings"]
    assert (told["dataset"], told["dataset_name"], told["public_dataset_name"]) == (mine, "mine", "mine")
    again = client.post("/evaluations", json=told)
    assert again.json()["settings"] == told
    client.post(again.json()["links"]["cancel"])
    run_cells(body)
    assert client.delete(f"/datasets/{mine}").status_code == 204
    here = f"/evaluations/{body['id']}"
    for page in (f"{here}/report.html", f"{here}/report.md", f"/dashboard{here}"):
        assert f"mine ({mine})" in client.get(page).text.replace("\\_", "_")
    command = client.get(f"{here}/report.json").json()["command"]
    assert f"--dataset {mine} --public-dataset {public} " in command


def test_it_stands_beside_known_schemes_in_one_evaluation(client, runtime):
    id = store_upload(runtime, originals=True)
    body = create_evaluation(client, schemes=[{"name": "external", "dataset": id}, {"name": "tanaka"}])
    assert [cell["scheme"]["name"] for cell in body["cells"]] == ["external"] * 3 + ["tanaka"] * 3


@pytest.mark.parametrize(
    ("entry", "dataset", "pointer"),
    [
        ({"name": "external"}, "sample", "/schemes/0/dataset"),
        ({"name": "external", "dataset": "ds_0"}, "sample", "/schemes/0/dataset"),
        ({"name": "external", "dataset": "PLAIN"}, "sample", "/schemes/0/dataset"),
        ({"name": "external", "dataset": "MINE", "key_id": "key_0"}, "sample", "/schemes/0/key_id"),
        ({"name": "external", "dataset": "MINE", "block": 4}, "sample", "/schemes/0/block"),
        ({"name": "tanaka", "dataset": "MINE"}, "sample", "/schemes/0/dataset"),
        ({"name": "tanaka", "dataset_name": "mine"}, "sample", "/schemes/0/dataset_name"),
        ({"name": "tanaka"}, None, "/dataset"),
    ],
)
def test_what_cannot_be_ordered_is_named(client, runtime, entry, dataset, pointer):
    ids = {"MINE": store_upload(runtime, originals=True), "PLAIN": store_upload(runtime, originals=False, kind="plain")}
    entry = {name: ids.get(value, value) for name, value in entry.items()}
    wanted = {"schemes": [entry], "attacks": [{"name": "fr"}], "dataset": dataset, "profile": "smoke"}
    answer = client.post("/evaluations", json=wanted)
    assert answer.status_code == 422
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]
