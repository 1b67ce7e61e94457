"""What is read while a caller waits is found by an index, however many rows there are."""

from __future__ import annotations

import httpx
import psycopg
import pytest

from benchmarks import rows
from tests.app.evaluations.conftest import LiveService
from unveil.app.settings import Settings

ROWS, IMAGES = 5_000, 8_000
LAST, CELL = rows.evaluation_id(ROWS), rows.cell_id(ROWS)


@pytest.fixture
def full_database(settings: Settings, client: httpx.Client) -> None:
    with psycopg.connect(settings.database_url) as database:
        ((account,),) = database.execute("SELECT id FROM accounts").fetchall()
    rows.insert_evaluations(settings.database_url, account, ROWS, IMAGES)
    rows.insert_board_entries(settings.database_url, ROWS, schemes=1)


ADDRESSES = (
    "/evaluations",
    "/evaluations?limit=200",
    f"/evaluations/{LAST}",
    f"/evaluations/{LAST}/events",
    f"/evaluations/{LAST}/report.json",
    f"/evaluations/{LAST}/cells/{CELL}/scores.csv",
    f"/evaluations/{LAST}/cells/{CELL}/curve",
    f"/evaluations/{LAST}/cells/{CELL}/samples/0/plain.png",
    "/keys",
    "/dashboard/playground",
    "/board",
    "/keys/" + LAST.replace("ev_", "key_"),
)


def test_no_big_table_is_read_from_end_to_end(
    service: LiveService, settings: Settings, client: httpx.Client, full_database: None
):
    for address in ADDRESSES:
        with rows.record_statements(service.app.state.app_state.engine.sync_engine) as heard:
            answer = client.get(address)
        assert answer.status_code == 200, (address, answer.text)
        assert (address, rows.find_sequential_scans(settings.database_url, heard)) == (address, [])
        assert len(heard) > 1, address  # who calls, and what was asked for
    (unindexed,) = rows.find_sequential_scans(
        settings.database_url, [("SELECT id FROM evaluations WHERE name = 'x'", {})]
    )
    assert unindexed.startswith("evaluations:"), "what has no index is noticed"


def test_pages_and_scores_are_whole_in_a_full_database(client: httpx.Client, full_database: None):
    first = client.get("/evaluations", params={"limit": 200}).json()
    second = client.get("/evaluations", params={"limit": 200, "cursor": first["next"]}).json()
    names = [item["name"] for page in (first, second) for item in page["items"]]
    assert names == [f"audit {number}" for number in range(ROWS, ROWS - 400, -1)]
    lines = client.get(f"/evaluations/{LAST}/cells/{CELL}/scores.csv").text.splitlines()
    assert (lines[0], len(lines)) == ("index,ssim,psnr,rank,vif", 1 + IMAGES)
