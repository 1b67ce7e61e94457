"""The report: its tables beside the paper's, its pictures, its words, every format."""

from __future__ import annotations

import base64
import csv
import hashlib
import html
import io
import os
import re
import shlex
import sys
import tracemalloc
import zipfile

import httpx
import pytest
from sqlalchemy import event, select, text

from tests.app.evaluations.conftest import create_evaluation
from unveil.app.db.tables import Cell
from unveil.app.evaluations import queries
from unveil.app.jobs import cancellation, event_log
from unveil.app.report import charts, image_grids
from unveil.app.security import signing

SMALL = {"schemes": [{"name": "tanaka"}], "attacks": [{"name": "none"}, {"name": "brute-force"}], "keys": 1}


@pytest.fixture
def fetch(client, run_cells):
    """Order, run, and read the report in a format."""

    def run(format: str, **changed):
        body = create_evaluation(client, **changed)
        run_cells(body)
        answer = client.get(f"{body['links']['self']}/report.{format}")
        assert answer.status_code == 200
        return answer

    return run


def test_the_page_is_self_contained_and_states_the_findings(client, run_cells):
    body = create_evaluation(client, name="audit <b>1</b> | x")
    run_cells(body)
    base = body["links"]["self"] + "/report"
    page = client.get(f"{base}.html")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "audit &lt;b&gt;1&lt;/b&gt;" in page.text
    assert "<b>1</b>" not in page.text
    assert set(re.findall(r"https?://[^/]*/", page.text)) == {"https://doi.org/"}
    assert "<script" not in page.text
    assert not re.search(r"\sstyle=", page.text)
    style = re.search(r"<style>(.*?)</style>", page.text, re.DOTALL).group(1)
    own = f"sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}"
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page.text).group(1))
    assert f"style-src '{own}'" in policy, "a saved page carries its own policy"
    assert page.headers["content-security-policy"].startswith(policy)

    assert "Do not rely on it" not in page.text
    assert "schemes: " in page.text, "a line sums the verdicts up"
    for paper in ("0.4646", "0.1715", "0.7369" if "TN-GAN" in page.text else "0.7152"):
        assert paper in page.text, "the paper's value stands beside ours, ordered or not"
    assert "2^594.3" in page.text
    assert "not measured" in page.text
    words = shlex.split(html.unescape(re.search(r'<pre class="wrap">(.*?)</pre>', page.text, re.DOTALL).group(1)))
    assert words[:4] == ["unveil", "evaluate", "--schemes", "pixelwise,tanaka"]
    assert words[words.index("--seed") + 1] == "0"

    data = client.get(f"{base}.json").json()
    assert data["id"] == body["id"]
    again = client.post("/evaluations", json=data["order"])
    assert again.status_code == 202
    assert [(c["scheme"], c["attack"]) for c in again.json()["cells"]] == [
        (c["scheme"], c["attack"]) for c in body["cells"]
    ]


def test_the_tables_have_the_papers_rows_in_its_order_and_then_ours(fetch):
    schemes = [{"name": "ele"}, {"name": "tanaka"}, {"name": "tanaka", "variant": "icce2018"}]
    attacks = [{"name": "fr"}, {"name": "fr", "b": 1}, {"name": "brute-force"}, {"name": "key-recovery"}]
    data = fetch("json", schemes=schemes, attacks=attacks, keys=1).json()
    rows = [line["scheme"] for line in data["table_1"]]
    assert rows[:4] == ["pixelwise (same key)", "pixelwise (different keys)", "tanaka", "tanaka (icce2018)"]
    assert rows[-1] == "ele"
    same, tanaka, ele = data["table_1"][0], data["table_1"][2], data["table_1"][-1]
    assert (same["fr"], same["fr paper"], same["itn paper"]) == (None, 0.4646, 0.1715), "not ordered: the paper's alone"
    assert tanaka["fr ci_low"] < tanaka["fr"] < tanaka["fr ci_high"]
    assert tanaka["fr"] != tanaka["fr (b=1)"]
    assert (ele["fr paper"], ele["key-recovery"]) == (None, "N/A")
    second = {line["scheme"]: line for line in data["table_2"]}
    assert (second["tanaka"]["fr"], second["tanaka"]["fr paper"]) == ("x", "o"), "it leaks, which an eye does not see"
    assert (second["tanaka"]["itn"], second["tanaka"]["itn paper"]) == (None, "x")
    assert (second["tanaka"]["worst other"], second["tanaka"]["worst other attack"]) == ("x", "key-recovery")
    assert second["tanaka"]["verdict"] == "broken"
    assert (second["tanaka"]["classification"], second["tanaka"]["classification paper"]) == ("not measured", "Low")
    assert second["pixelwise (same key)"]["verdict"] is None
    assert round(second["tanaka"]["key_space_bits"], 3) == 594.277


def test_one_image_is_seen_under_every_scheme_and_attack(client, run_cells, fetch):
    body = create_evaluation(client, samples=4)
    run_cells(body)
    cells = client.get(body["links"]["self"]).json()["cells"]
    kept = [{sample["index"] for sample in cell["samples"]} for cell in cells if cell["samples"]]
    assert 0 in set.intersection(*kept), "the first image is among the samples of every cell"
    page = client.get(body["links"]["report"]).text
    figure = re.search(r'<table class="pictures">(.*?)</table>', page, re.DOTALL).group(1)
    shown = re.findall(r'<use href="#([\w-]+)"', figure)
    assert len(shown) == 1 + 2 * 2, "the original, and by scheme: protected, FR"
    plain = client.get(f"{cells[0]['samples'][0]['plain'].rsplit('/', 2)[0]}/0/plain.png").content
    stored = dict(re.findall(r'<symbol id="([\w-]+)".*?base64,([\w+/=]+)"', page))
    assert base64.b64decode(stored[shown[0]]) == plain
    assert len(set(stored.values())) == len(stored), "each image once"
    assert "Fig. 9" in figure


def test_a_page_with_many_pictures_keeps_its_size(client, run_cells, monkeypatch):
    body = create_evaluation(client, samples=8)
    run_cells(body)
    whole = client.get(body["links"]["report"])
    monkeypatch.setattr(image_grids, "MAX_IMAGE_BYTES", 900_000)
    small = client.get(body["links"]["report"])
    assert "32 stored triples" in small.text
    monkeypatch.setattr(image_grids, "MAX_IMAGE_BYTES", 100_000)
    smallest = client.get(body["links"]["report"])
    assert smallest.text.count('class="pictures"') == 1, "one image under every attack is always shown"
    assert len(smallest.content) < 500_000
    assert len(smallest.content) < len(small.content) < len(whole.content) < 1_500_000


def test_the_report_comes_in_every_format_and_is_signed(client, run_cells, tmp_path):
    body = create_evaluation(client, name="audit | x")
    run_cells(body)
    base = body["links"]["self"] + "/report"
    lines = list(csv.DictReader(io.StringIO(client.get(f"{base}.csv").text)))
    assert [(line["scheme"], line["attack"]) for line in lines][:2] == [
        ("pixelwise (same key)", "none"), ("pixelwise (same key)", "fr"),
    ]  # fmt: skip
    assert lines[1]["paper_robust"] == "False"
    text = client.get(f"{base}.md").text
    assert "| Tanaka's scheme |" in text
    assert "(paper 0.4646)" in text
    assert "\\|" in text.splitlines()[0]
    result = client.get(body["links"]["self"]).json()["cells"][0]["result"]
    facts = [f"Evaluation: {body['id']}", f"Dataset, SHA-256: {result['dataset_sha256']}", "verdict rules 2"]
    for fact in (*facts, f"Hardware: {result['hardware']}"):
        assert fact in text.replace("\\", "")
    (digest,) = re.findall(r"Results, SHA-256: ([0-9a-f]{64})", text)
    assert digest in client.get(f"{base}.html").text

    keys = client.get("/.well-known/jwks.json", headers={"Authorization": ""}).json()["keys"]
    for format in ("html", "md", "json", "pdf", "zip"):
        file = tmp_path / f"report.{format}"
        file.write_bytes(client.get(f"{base}.{format}").content)
        signature = signing.verify_file(file)
        assert (signature.claims.evaluation, signature.claims.auditor) == (body["id"], "owner")
        assert [signature.kid] == [key["kid"] for key in keys]
    assert "Auditor: owner" in text

    shared = client.get(f"{base}.html", params={"images": "false"}).text
    assert "Images are left out of this copy." in shared
    assert "data:image" not in shared
    with zipfile.ZipFile(io.BytesIO(client.get(f"{base}.zip", params={"images": "false"}).content)) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".png")]

    with zipfile.ZipFile(io.BytesIO(client.get(f"{base}.zip").content)) as archive:
        names = archive.namelist()
        assert {"report.html", "report.json", "report.csv", "report.md", "table-1.csv", "table-2.csv"} <= set(names)
        assert sum(name.endswith(".png") for name in names) == 24
        assert sum(name.endswith("scores.csv") for name in names) == 6
        table = list(csv.DictReader(io.StringIO(archive.read("table-1.csv").decode())))
    assert table[0]["fr paper"] == "0.4646"


def test_a_pdf_has_the_pages_text_and_images_and_says_what_to_do_where_it_cannot_be_written(
    client, run_cells, monkeypatch
):
    body = create_evaluation(client, name="#strong[x] $1$ " + "y" * 100)
    run_cells(body)
    address = f"{body['links']['self']}/report.pdf"
    answer = client.get(address)
    assert answer.headers["Content-Type"] == "application/pdf"
    assert answer.content.startswith(b"%PDF-")
    assert answer.content.endswith(b"%%EOF\n")
    assert len(answer.content) > len(client.get(address, params={"images": "false"}).content)
    monkeypatch.setitem(sys.modules, "typst", None)
    refused = client.get(address)
    assert (refused.status_code, refused.json()["code"]) == (501, "pdf_unavailable")
    assert "print report.html" in refused.json()["detail"]


def test_stored_results_without_hardware_and_commit_have_a_report(client, runtime, run_cells):
    body = create_evaluation(client, **SMALL)
    run_cells(body)
    with runtime.sessions.begin() as session:
        for cell in session.scalars(select(Cell).where(Cell.evaluation_id == body["id"], Cell.result.is_not(None))):
            versions = {name: value for name, value in cell.result["versions"].items() if name != "commit"}
            result = {name: value for name, value in cell.result.items() if name != "hardware"}
            cell.result = {**result, "versions": versions}
    page = client.get(body["links"]["report"]).text
    assert "Hardware" not in page
    assert "(commit" not in page
    assert "Measured with" in page


def test_references_are_those_of_the_schemes_and_attacks(fetch):
    page = fetch("html", **SMALL).text
    assert "https://doi.org/10.48550/arXiv.1804.00490" in page
    assert "@misc{tanaka2018learnable" in page
    assert "CycleGAN" not in page


def test_a_report_of_an_unfinished_evaluation_is_marked_as_such(client, runtime):
    body = create_evaluation(client, **SMALL)
    page = client.get(body["links"]["report"]).text
    assert "not final" in page
    assert "No conclusion: attacks are still running" in page
    for format in ("json", "csv", "md", "pdf", "zip"):
        assert client.get(f"{body['links']['self']}/report.{format}").status_code == 200
    with runtime.sessions.begin() as session:
        cancellation.cancel_evaluation(session, event_log.lock_evaluation(session, body["id"]))
    assert "cancelled" in client.get(body["links"]["report"]).text


@pytest.mark.parametrize("value", [0.5, -3.0, 0.0, 1e-9])
@pytest.mark.parametrize("rounding", [0.0, 2**-53])
def test_a_constant_curve_lies_in_the_middle_of_its_chart_and_not_on_the_axis(value, rounding):
    flat = charts.build_chart("loss", "epoch", "loss", {"loss": [[1, value], [2, value * (1 + rounding)], [3, value]]})
    heights = {y for _, y in flat.series[0].dots}
    assert heights == {(flat.top + flat.bottom) / 2}
    assert any(float(tick.text) == value for tick in flat.y_ticks)


@pytest.mark.parametrize(
    "points", [[], [[1, 0.5]], [[1, None], [2, 0.5]], [[2, 0.1], [2, 0.2]]], ids=["none", "one", "gap", "one x"]
)
def test_what_makes_no_curve_makes_no_chart(points):
    assert charts.build_chart("loss", "epoch", "loss", {"loss": points}) is None


def test_epochs_are_counted_in_whole_numbers():
    plot = charts.build_chart("loss", "epoch", "loss", {"loss": [[1, 0.5], [2, 0.4]]})
    assert [tick.text for tick in plot.x_ticks] == ["1", "2"]


def test_a_chart_has_round_ticks_inside_its_frame():
    plot = charts.build_chart("t", "ciphertexts", "SSIM", {"a": [[1, -0.2], [64, 1.0]]}, log=True, y_range=(-0.2, 1.0))
    assert [tick.text for tick in plot.x_ticks] == ["1", "2", "4", "8", "16", "32", "64"]
    assert [tick.text for tick in plot.y_ticks] == ["0", "0.5", "1"] or len(plot.y_ticks) >= 3
    assert all(plot.left <= tick.at <= plot.right for tick in plot.x_ticks)
    assert all(plot.top <= tick.at <= plot.bottom for tick in plot.y_ticks)
    assert plot.series[0].dots == [(plot.left, plot.bottom), (plot.right, plot.top)]


def test_a_page_reads_the_pictures_that_it_shows_and_no_others(service, client, runtime, run_cells):
    body = create_evaluation(client, schemes=[{"name": "tanaka"}], attacks=[{"name": "none"}], samples=8)
    run_cells(body)
    (cell,) = [cell["id"] for cell in body["cells"] if cell["attack"]["name"] == "none"]
    with runtime.sessions.begin() as session:
        session.execute(
            text(
                "INSERT INTO samples (cell_id, index, ssim, plain, protected, reconstructed) "
                "SELECT cell_id, index + 1000 * n, ssim, plain, protected, reconstructed "
                "FROM samples, generate_series(1, 50) n WHERE cell_id = :cell"
            ),
            {"cell": cell},
        )
    engine, read = service.app.state.app_state.engine.sync_engine, []

    def listen(connection, cursor, statement, *_):
        if "samples.reconstructed" in statement and "octet_length" not in statement:
            read.append(cursor.rowcount)

    event.listen(engine, "after_cursor_execute", listen)
    try:
        page = client.get(f"/evaluations/{body['id']}/report.html")
    finally:
        event.remove(engine, "after_cursor_execute", listen)
    assert page.status_code == 200
    assert page.text.count("data:image/png") >= 3
    assert 0 < sum(read) < 20


def test_a_zip_holds_a_few_pictures_in_memory(client, runtime, run_cells, monkeypatch, tmp_path):
    monkeypatch.setattr(image_grids, "MAX_IMAGE_BYTES", 300_000)
    body = create_evaluation(client)
    run_cells(body)
    with runtime.sessions.begin() as session:
        stored = text(
            "INSERT INTO samples (cell_id, index, ssim, protected, reconstructed) "
            "SELECT cell_id, 1000 + n, ssim, :large, :large FROM samples, generate_series(1, 40) n WHERE index = 0"
        )
        session.execute(stored, {"large": os.urandom(100_000)})
    address = f"/evaluations/{body['id']}/report.zip"
    client.head(address)  # what is loaded once is loaded
    tracemalloc.start()
    try:
        with client.stream("GET", address) as answer, (tmp_path / "report.zip").open("wb") as file:
            for part in answer.iter_bytes():
                file.write(part)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        large = [len(archive.read(name)) for name in archive.namelist() if re.search(r"/1\d\d\d-.*png$", name)]
    assert large == [100_000] * (4 * 40 * 2), "four cells of 8 MB"
    assert peak < 20_000_000


def test_a_report_of_what_is_deleted_meanwhile_is_none(client, run_cells, monkeypatch):
    body = create_evaluation(client, **SMALL)
    run_cells(body)
    real, looks = queries.list_sample_images, []

    async def gone_after(session, ids):
        looks.append(ids)
        return await real(session, ids) if len(looks) <= kept else []

    monkeypatch.setattr(queries, "list_sample_images", gone_after)
    kept = 0
    for format in ("html", "zip"):
        answer = client.get(f"/evaluations/{body['id']}/report.{format}")
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_evaluation")
    looks.clear()
    kept = 1  # those of the page
    with pytest.raises(httpx.RemoteProtocolError):  # half a zip must not look like a whole one
        client.get(f"/evaluations/{body['id']}/report.zip")
