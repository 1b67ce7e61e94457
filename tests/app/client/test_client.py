"""The Python client against the running service."""

from __future__ import annotations

import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import PIL.Image
import pytest

from tests.sample_images import archive, classes, pixels, png
from unveil.app.client.client import Client
from unveil.app.client.errors import Invalid, KeyDestroyed, NotFound, TimedOut, Unauthenticated, UnknownKey, Unreachable
from unveil.app.local.stack import LocalStack

SMALL = {"dataset": "sample", "profile": "smoke", "keys": 1, "samples": 1}


def test_paths_bytes_and_arrays_go_in_and_come_back_exactly(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(1, 30, 21))
    protected = client.encrypt([path, png(2), pixels(3)], "tanaka")
    assert len(set(protected.key_ids)) == 1
    assert not np.array_equal(protected[2].pixels[:24, :24], pixels(3))
    plain = client.decrypt(protected)
    for image, seed, size in zip(plain, (1, 2, 3), ((30, 21), (24, 24), (24, 24)), strict=True):
        assert np.array_equal(image.pixels, pixels(seed, *size))


@pytest.mark.parametrize("name", ['Grüße 日本 "x" ;.png', "a\\b.png", "%22.png", "x" * 200 + ".png", "a\tb.png"])
def test_an_image_comes_back_by_the_name_that_was_given(client: Client, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(png(1))
    protected = client.encrypt([tmp_path / name, png(2)], "tanaka")
    assert [image.filename for image in protected] == [name, "image-1"]
    assert client.decrypt(protected)[0].filename == name


def test_one_array_holds_a_whole_set_and_one_picture_needs_no_list(client: Client) -> None:
    images = np.stack([pixels(1), pixels(2)])
    protected = client.encrypt(images, "pixelwise", {"key_mode": "same"})
    assert protected.pixels.shape == images.shape
    assert np.array_equal(client.decrypt(protected.pixels, protected.key_ids).pixels, images)
    assert np.array_equal(client.decrypt(client.encrypt(images[0], "tanaka")).pixels, images[:1])
    with pytest.raises(ValueError, match=r"float64 \[24, 24, 3\]"):
        client.encrypt(images[0] / 255, "tanaka")


def test_what_came_of_a_jpeg_goes_back_as_the_png_it_is(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    PIL.Image.fromarray(pixels(1)).save(path, quality=95)
    plain = client.decrypt(client.encrypt([path], "tanaka"))
    assert np.array_equal(plain[0].pixels, np.asarray(PIL.Image.open(path)))


def test_more_images_than_a_request_takes_share_one_key(client: Client) -> None:
    protected = client.encrypt([pixels(i, 8, 8) for i in range(70)], "pixelwise", {"key_mode": "same"})
    assert len(protected) == 70
    assert len(set(protected.key_ids)) == 1


def test_different_keys_are_one_each(client: Client) -> None:
    protected = client.encrypt([pixels(1), pixels(1)], "pixelwise", {"key_mode": "different"})
    assert len(set(protected.key_ids)) == 2
    assert np.array_equal(client.decrypt(protected)[1].pixels, pixels(1))


def test_a_refusal_is_a_typed_exception_that_names_the_file(client: Client) -> None:
    with pytest.raises(Invalid, match="image-1") as caught:
        client.encrypt([png(1), b"no image"], "tanaka")
    assert caught.value.errors[0][0] == "/images/1"
    assert caught.value.request_id.startswith("req_")


def test_a_key_is_listed_and_once_destroyed_gone(client: Client) -> None:
    id = client.encrypt(png(1), "tanaka").key_ids[0]
    key = client.keys.get(id)
    assert (key.uses, key.ready, key.ended) == (1, True, True)
    assert id in [item.id for item in client.keys.list()]
    again = client.keys.create("tanaka", material=key.material())
    assert np.array_equal(client.encrypt(png(1), key_id=again.id).pixels, client.encrypt(png(1), key_id=id).pixels)
    key.delete()
    with pytest.raises(KeyDestroyed):
        key.refresh()
    with pytest.raises(UnknownKey):
        client.keys.get("key_" + "0" * 32)


def test_a_wrong_token_and_a_wrong_address_say_so(stack: LocalStack) -> None:
    with Client(stack.url, "wrong") as client, pytest.raises(Unauthenticated):
        client.schemes()
    with Client("http://127.0.0.1:9", "any", retries=0) as client, pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
        client.schemes()


def test_an_evaluation_is_ordered_followed_and_reported(client: Client) -> None:
    looks: list[float] = []
    evaluation = client.evaluations.create(
        schemes=["tanaka", {"name": "pixelwise", "key_mode": "same"}], attacks=["none", "fr"], name="by client", **SMALL
    )
    evaluation.wait(progress=lambda now: looks.append(now.progress.fraction), timeout=150)
    assert evaluation.status == "succeeded"
    assert looks == sorted(looks)
    cell = next(cell for cell in evaluation.cells if cell.attack["name"] == "fr" and cell.scheme["name"] == "tanaka")
    assert cell.ssim is not None
    assert cell.ssim < 0.3
    assert evaluation.pixels(cell.samples[0].plain).shape == (96, 96, 3)
    assert evaluation.fetch(cell.links["scores"]).startswith(b"index,ssim")
    assert b"<html" in evaluation.report("html")[:200].lower()
    events = list(evaluation.events())
    assert [event.id for event in events] == sorted({event.id for event in events})
    assert events[-1].type == "status"
    assert events[-1].data["status"] == "succeeded"
    assert evaluation.id in [item["id"] for item in client.evaluations.list()]
    assert client.evaluations.get(evaluation.id).name == "by client"
    evaluation.delete()
    with pytest.raises(NotFound):
        client.evaluations.get(evaluation.id)


def test_a_wait_that_runs_out_leaves_the_evaluation_running_until_it_is_cancelled(client: Client) -> None:
    training = {"name": "itn", "epochs": 400}  # no machine is fast enough to finish it before the test cancels it
    evaluation = client.evaluations.create(schemes=["pixelwise"], attacks=[training], **SMALL)
    with pytest.raises(TimedOut, match=evaluation.id):
        evaluation.wait(timeout=0)
    evaluation.cancel()
    assert evaluation.wait(timeout=120).status == "cancelled"


def test_the_same_order_twice_is_one_evaluation(client: Client) -> None:
    order = {"schemes": ["tanaka"], "attacks": ["brute-force"], "idempotency_key": "client-twice", **SMALL}
    assert client.evaluations.create(**order).id == client.evaluations.create(**order).id


def test_lists_come_page_by_page(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = {client.encrypt(pixels(i, 8, 8), "tanaka").key_ids[0] for i in range(3)}
    monkeypatch.setattr("unveil.app.client.operations._PAGE_SIZE", 2)
    listed = [key.id for key in client.keys.list()]
    assert ids <= set(listed)
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("packed", [True, False], ids=["zip", "folder"])
def test_a_dataset_is_uploaded_from_disk(client: Client, tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "holiday.zip"
    path.write_bytes(archive(classes(5)))
    if not packed:
        zipfile.ZipFile(path).extractall(tmp_path / "holiday")
        path = tmp_path / "holiday"
    made = client.datasets.upload(path, size=16)
    assert (made["name"], made["train"], made["width"]) == ("holiday", 8, 16)
    assert client.datasets.get(made["id"]) == made
    assert made["id"] in [item["id"] for item in client.datasets.list()]
    client.datasets.delete(made["id"])


def test_an_evaluation_is_a_table_for_pandas_latex_and_notebooks(client: Client, tmp_path: Path) -> None:
    evaluation = client.evaluations.create(
        schemes=["tanaka", "pixelwise"], attacks=["none", "fr"], profile="smoke", keys=1, samples=0, name="a_b"
    ).wait(timeout=200)
    frame = evaluation.to_pandas().set_index(["scheme", "attack"])
    assert len(frame) == len(evaluation.cells)
    cell = next(each for each in evaluation.cells if (each.scheme["name"], each.attack["name"]) == ("tanaka", "fr"))
    assert frame.loc[("tanaka", "fr"), "cell"] == cell.id
    assert frame.loc[("tanaka", "fr"), "ssim"] == cell.ssim
    latex = evaluation.to_latex()
    assert latex.startswith("% a_b, ev_")
    assert rf"Tanaka's scheme & {evaluation.verdicts[0].verdict} & " in latex
    html = evaluation._repr_html_()
    assert "<script" not in html
    assert f"<td {html.partition('<td ')[2].partition('>')[0]}>{cell.ssim:.3f}</td>" in html
    drawing = evaluation.plot().save(tmp_path / "ssim.svg").read_text()
    ElementTree.fromstring(drawing)
    assert drawing.count("<circle") == sum(each.ssim is not None for each in evaluation.cells)
    with pytest.raises(ValueError, match=r"end the name in \.svg"):
        evaluation.plot().save(tmp_path / "ssim.png")
