"""All attacked images of a cell: their routes and their pages."""

from __future__ import annotations

import io
import re

import httpx
import numpy as np
import pytest
from PIL import Image
from sqlalchemy import delete, func, select, text

from tests.factories import identification_summary, make_evaluation, make_result
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Account, Cell, CellImages, Evaluation, ImageSet, Sample, Scores
from unveil.models.core.cell_result import LinkageSummary
from unveil.models.core.images import to_png
from unveil.models.evaluation.attacked_images import AttackedImages
from unveil.models.metrics.line_up import LineUp
from unveil.worker.cell_images import store_cell_images

COUNT, GALLERY, SIDE = 8_000, 10, 8
STORED = 100
RNG = np.random.default_rng(0)
SSIM, RANKS = RNG.random(COUNT), RNG.permutation(COUNT) + 1
ORIGINALS, PROTECTED, RECONSTRUCTED = (RNG.integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8) for _ in range(3))
DISTRACTORS = RNG.integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
SAMPLE = 500  # beyond the stored images


def make_images() -> AttackedImages:
    """Image i has the line-up of images 2, 4, i, a distractor and one that is not stored; image 3 lacks itself."""
    nearest = np.array([[2, 4, i, COUNT, COUNT - 1] for i in range(COUNT)])
    nearest[3, 2] = 6
    similarities = np.tile(np.linspace(0.9, 0.5, 5, dtype=np.float32), (COUNT, 1))
    own = nearest == np.arange(COUNT)[:, None]
    line_up = LineUp("dihedral-24", nearest, similarities, own, np.full(COUNT, 0.25, np.float32), RANKS)
    return AttackedImages(PROTECTED, RECONSTRUCTED, ORIGINALS, DISTRACTORS, np.array([2, 4, COUNT]), SSIM, line_up)


@pytest.fixture
def cell(client, runtime):
    """The address of a finished cell that attacked 8,000 images and stores the first hundred and one sample."""
    with runtime.sessions() as session:
        account = session.scalars(select(Account.id).where(Account.name == "owner")).one()
    evaluation, (id,) = make_evaluation(runtime.sessions, account, ("fr",))
    limited = runtime.settings.model_copy(update={"cell_images_bytes": STORED * SIDE * SIDE * 3})
    object.__setattr__(runtime, "settings", limited)
    row = store_cell_images(runtime, evaluation, id, make_images())
    png = to_png(ORIGINALS[SAMPLE])
    indices = list(range(COUNT))
    with runtime.sessions.begin() as session:
        for table, own in ((Evaluation, evaluation), (Cell, id)):
            ended = session.get_one(table, own)
            ended.status, ended.finished_at = Status.SUCCEEDED, func.clock_timestamp()
        result = make_result(0.5, identification=identification_summary(0.4), leaking_images=[77])
        session.get_one(Cell, id).result = result.to_json()
        session.add(row)
        session.add(Sample(cell_id=id, index=SAMPLE, ssim=0.5, plain=png, protected=png, reconstructed=png))
        scores = {"ssim": SSIM.tolist(), "psnr": SSIM.tolist(), "rank": RANKS.tolist()}
        session.add(Scores(cell_id=id, index=indices, **scores))
    return f"/evaluations/{evaluation}/cells/{id}"


def read_image(client: httpx.Client, address: str) -> np.ndarray:
    answer = client.get(address)
    assert answer.status_code == 200, address
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def test_an_attacked_image_is_served_with_its_scores_and_its_line_up(client, cell):
    body = client.get(f"{cell}/images/77").json()
    for name, images in (("plain", ORIGINALS), ("protected", PROTECTED), ("reconstructed", RECONSTRUCTED)):
        assert (read_image(client, body[name]) == images[77]).all(), name
    assert (body["ssim"], body["rank"], body["is_leaking"]) == (SSIM[77], RANKS[77], True)
    candidates = body["line_up"]["candidates"]
    assert [each["number"] for each in candidates] == [2, 4, 77, COUNT, COUNT - 1]
    assert [each["is_own"] for each in candidates] == [False, False, True, False, False]
    assert [each["distance"] for each in candidates] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert (read_image(client, candidates[1]["image"]) == ORIGINALS[4]).all()
    assert (read_image(client, candidates[3]["image"]) == DISTRACTORS[0]).all()
    assert candidates[4]["image"] is None, "neither a kept image nor in the gallery"
    assert (body["line_up"]["own"]["number"], body["line_up"]["own"]["distance"]) == (77, 0.75)
    page = client.get(f"/dashboard{cell}/images/77").text
    assert page.count('class="true"') == 1
    assert "3, true original" in page
    assert f"distractor {COUNT}" in page
    assert f"rank {RANKS[3]}, true original" in client.get(f"/dashboard{cell}/images/3").text, "beside the five"


def test_what_was_not_attacked_or_stored_is_not_there(client, cell, sign_in):
    for path in (f"images/{COUNT}", f"samples/{COUNT}/plain.png", "gallery/99999.png", "samples/0/other.png"):
        assert client.get(f"{cell}/{path}").status_code in (404, 422), path
    body = client.get(f"{cell}/images/{STORED}").json()
    assert (body["plain"], body["protected"], body["ssim"]) == (None, None, SSIM[STORED])
    assert client.get(f"{cell}/samples/{STORED}/protected.png").status_code == 404
    assert "not stored, only its scores" in client.get(f"/dashboard{cell}/images/{STORED}").text
    assert (read_image(client, f"{cell}/samples/{SAMPLE}/plain.png") == ORIGINALS[SAMPLE]).all()
    stranger = sign_in("stranger")
    for path in ("images/0", "gallery/0.png", "samples/0/plain.png"):
        assert stranger.get(f"{cell}/{path}").status_code == 404, path


def test_eight_thousand_images_come_a_page_at_a_time(client, cell):
    shown = []
    for number in (1, 2, 667):
        answer = client.get(f"/dashboard{cell}?order=rank&page={number}")
        assert answer.status_code == 200
        assert len(answer.content) < 60_000
        shown += [int(index) for index in re.findall(r'<li id="image-(\d+)"', answer.text)]
    by_rank = np.argsort(RANKS)
    assert shown == [*by_rank[:24], *by_rank[666 * 12 :]]
    assert f"Images of {STORED + 1} of 8,000 attacked images are stored" in answer.text
    lowest = client.get(f"/dashboard{cell}?order=worst").text
    assert f'<li id="image-{SSIM.argmin()}"' in lowest
    assert "of 667, 8,000 images" in lowest
    one, again = (client.get(f"/dashboard{cell}?order=random").text for _ in range(2))
    assert re.findall("image-[0-9]+", one) == re.findall("image-[0-9]+", again), "pages of one random order"
    target = client.get(f"/dashboard{cell}?order=rank&image=77").headers["Location"]
    image = client.get(target).text
    assert f"{RANKS[77]:,} of 8,000 (Best rank first)" in image
    assert f'rel="next" href="/dashboard{cell}/images/{by_rank[RANKS[77]]}?order=rank"' in image


def test_a_result_of_an_earlier_version_shows_scores_of_all_and_its_samples(client, cell, runtime):
    with runtime.sessions.begin() as session:
        session.execute(delete(CellImages))
        session.execute(delete(ImageSet))
    body = client.get(f"{cell}/images/{SAMPLE}").json()
    assert (body["plain"], body["line_up"]) == (f"{cell}/samples/{SAMPLE}/plain.png", None)
    other = client.get(f"{cell}/images/0").json()
    assert (other["plain"], other["ssim"]) == (None, SSIM[0])
    assert "Images of 1 of 8,000 attacked images are stored" in client.get(f"/dashboard{cell}?order=number").text
    assert "Line-up" not in client.get(f"/dashboard{cell}/images/{SAMPLE}").text


def test_a_linkage_cell_shows_protected_images_with_their_line_up(client, cell, runtime):
    linkage = LinkageSummary(top1=0.5, chance=0.1, ci_low=0.4, ci_high=0.6, gallery=32, effective_gallery=32)
    with runtime.sessions.begin() as session:
        id = cell.rpartition("/")[2]
        session.get_one(Cell, id).result = make_result(linkage=linkage).to_json()
        row = session.get_one(CellImages, id)
        row.ssim = row.reconstructed = None
        session.execute(delete(Sample))
    image = client.get(f"{cell}/images/5").json()
    assert (image["ssim"], image["reconstructed"]) == (None, None)
    page = client.get(f"/dashboard{cell}/images/5").text
    assert "without reconstructing them" in page
    assert "this protected image by the attacker&#39;s recogniser" in page


def test_one_image_of_a_set_is_read_without_the_others(runtime):
    """PostgreSQL reads a part of a value only if it is stored uncompressed and outside of its row."""
    with runtime.sessions() as session:
        column = "attrelid = 'image_sets'::regclass AND attname = 'pixels'"
        assert session.scalar(text(f"SELECT attstorage::text FROM pg_attribute WHERE {column}")) == "e"
