"""Utility, ordered over HTTP: jobs of its own beside the cells, and the last columns of Table 2."""

from __future__ import annotations

import csv
import io
import zipfile
from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy import select

from tests.app.evaluations.conftest import create_evaluation
from tests.models.training.test_classifier import make_stripes
from unveil.app.db.ids import new_id
from unveil.app.db.tables import Account, Dataset
from unveil.models.data.image_dataset import ImageDataset
from unveil.models.data.npz import save_npz

ORDER = {
    "schemes": [{"name": "tanaka"}, {"name": "pixelwise"}], "attacks": [{"name": "chosen-plaintext"}],
    "utility": True, "keys": 1, "samples": 1,
}  # fmt: skip


def store_upload(
    runtime, kind: str = "plain", *, classes: tuple[str, ...] = ("lying", "standing"), originals=False, count=32
) -> str:
    """The row and blob that an upload of stripes leaves behind."""
    id = new_id("ds")
    data = ImageDataset(id, *make_stripes(count, side=32), *make_stripes(16, seed=1, side=32), classes=classes)
    if originals:
        data = replace(data, train_originals=255 - data.train, test_originals=255 - data.test)
    runtime.blobs.write_with(f"datasets/{id}.npz", partial(save_npz, data))
    with runtime.sessions.begin() as session:
        owner = session.scalars(select(Account.id)).one()
        session.add(
            Dataset(
                id=id,
                account_id=owner,
                name="stripes",
                kind=kind,
                train_count=count,
                test_count=16,
                width=32,
                height=32,
                labelled=len(classes) > 1,
                classes=list(classes),
                has_originals=originals,
                blob=f"datasets/{id}.npz",
                pixel_bytes=1,
            )
        )
    return id


def test_utility_is_measured_beside_the_cells_and_fills_the_tables(client, runtime, run_cells):
    body = create_evaluation(client, **{**ORDER, "dataset": store_upload(runtime)})
    assert [job["scheme"]["name"] for job in body["utility"]] == ["tanaka", "pixelwise"]
    assert {cell["attack"]["name"] for cell in body["cells"]} == {"chosen-plaintext", "none"}
    assert body["progress"]["total"] == 6
    assert "not measured" in client.get(body["links"]["report"]).text
    run_cells({"cells": body["cells"] + body["utility"]})
    done = client.get(body["links"]["self"]).json()
    assert done["status"] == "succeeded"
    for job in done["utility"]:
        result = job["result"]
        assert job["status"] == "succeeded"
        assert (result["plain"]["n"], result["protected"]["n"]) == (16, 16)
        assert result["classification"] in ("High", "Low", None)
        assert result["cost"]["level"] == "Low"
        assert "protected_loss" in client.get(job["links"]["curve"]).json()
    assert done["utility"][0]["result"]["plain"] == done["utility"][1]["result"]["plain"]
    broken = done["cells"][0]["result"]
    assert broken["recogniser"]["top1"] == broken["recogniser"]["plain"], "what is read exactly is recognised as well"
    assert len(done["verdicts"]) == 2, "utility is no attack"
    assert {verdict["worst_attack"] for verdict in done["verdicts"]} == {"chosen-plaintext"}

    base = body["links"]["self"] + "/report"
    page = client.get(f"{base}.html").text
    assert "Utility: accuracy of a classifier on protected images" in page
    assert "Recognised" in page
    assert "--utility" in page
    tables = {line["scheme"]: line for line in client.get(f"{base}.json").json()["table_2"]}
    assert tables["tanaka"]["classification"] == (done["utility"][0]["result"]["classification"] or "?")
    assert (tables["tanaka"]["cost"], tables["tanaka"]["classification paper"]) == ("Low", "Low")
    assert "## Utility" in client.get(f"{base}.md").text
    with zipfile.ZipFile(io.BytesIO(client.get(f"{base}.zip").content)) as archive:
        lines = list(csv.DictReader(io.StringIO(archive.read("utility.csv").decode())))
    assert [line["scheme"] for line in lines] == ["tanaka", "pixelwise (same key)"]
    assert float(lines[0]["plain"]) == done["utility"][0]["result"]["plain"]["top1"]


def test_a_cancelled_evaluation_has_no_utility_but_a_report(client, runtime):
    body = create_evaluation(client, **{**ORDER, "dataset": store_upload(runtime)})
    cancelled = client.post(body["links"]["cancel"]).json()
    assert {job["status"] for job in cancelled["utility"]} == {"cancelled"}
    assert "cancelled" in client.get(body["links"]["report"]).text


def test_images_without_classes_are_refused_and_named(client, runtime):
    id = store_upload(runtime, classes=("all",))
    answer = client.post("/evaluations", json={**ORDER, "name": "x", "profile": "smoke", "dataset": id})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/dataset"]
    assert "a class for every image" in answer.json()["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("classes", "count", "said"),
    [(("all",), 32, "labels of at least two classes"), (("lying", "standing"), 10, "at least 20 images; there are 10")],
)
def test_a_key_that_cannot_be_trained_on_the_images_is_refused_when_it_is_ordered(
    client, runtime, classes, count, said
):
    id = store_upload(runtime, classes=classes, count=count)
    evaluation = {"name": "x", "schemes": [{"name": "tn-model"}], "attacks": [{"name": "fr"}], "dataset": id}
    key = {"scheme": "tn-model", "params": {"profile": "smoke", "dataset": id}}
    for path, body, pointer in (("/evaluations", evaluation, "/dataset"), ("/keys", key, "/params/dataset")):
        answer = client.post(path, json=body)
        assert answer.status_code == 422, answer.text
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
        assert said in answer.json()["errors"][0]["detail"]


@pytest.mark.parametrize("originals", [True, False])
def test_uploaded_ciphertexts_are_measured_where_their_originals_are_known(client, runtime, run_cells, originals):
    id = store_upload(runtime, "protected", originals=originals)
    external = [{"name": "external", "dataset": id}]
    body = create_evaluation(client, **{**ORDER, "schemes": external, "attacks": [{"name": "fr"}], "dataset": None})
    (job,) = body["utility"]
    if not originals:
        assert job["status"] == "not_applicable"
        assert "originals" in job["reason"]
        return
    run_cells({"cells": body["cells"] + body["utility"]})
    done = client.get(body["links"]["self"]).json()
    assert done["utility"][0]["result"]["cost"]["level"] is None
    assert done["cells"][0]["result"]["recogniser"]
    for format in ("html", "json", "csv", "md", "zip"):
        assert client.get(f"{body['links']['self']}/report.{format}").status_code == 200
