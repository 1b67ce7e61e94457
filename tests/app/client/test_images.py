"""What the client takes for an image, and what it sends of it."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import PIL.Image
import pytest
import torch

from tests.sample_images import pixels, png
from unveil.app.client.images import Image, as_list, decode_rgb, read_key_id, to_multipart
from unveil.app.client.operations import _open_as_zip, decrypt
from unveil.app.client.transport import BoundClient, SyncTransport, run_blocking
from unveil.models.core.images import to_png

IMAGE = pixels(0)
KEY = "key_" + "0" * 32


def protected(**changes) -> Image:
    values = {
        "filename": "a.png",
        "key_id": KEY,
        "width": 24,
        "height": 24,
        "original_width": 23,
        "original_height": 21,
    }
    return Image(**{**values, "data": to_png(IMAGE), **changes})


@pytest.mark.parametrize(
    "source",
    [
        png(0), bytearray(png(0)), memoryview(png(0)), io.BytesIO(png(0)), PIL.Image.fromarray(IMAGE), IMAGE,
        torch.from_numpy(IMAGE), torch.from_numpy(IMAGE).permute(2, 0, 1),
    ],
    ids=lambda source: type(source).__name__,
)  # fmt: skip
def test_an_image_may_come_in_many_forms(source) -> None:
    (one,) = as_list(source)
    _, data, *_ = to_multipart(one, 0)
    assert np.array_equal(decode_rgb(data), IMAGE)
    several = torch.stack([source] * 2) if isinstance(source, torch.Tensor) else [IMAGE, source]
    if hasattr(source, "seek"):
        source.seek(0)
    _, second = as_list(several)
    assert np.array_equal(decode_rgb(to_multipart(second, 1)[1]), IMAGE)


def test_an_open_file_and_a_name_that_is_not_utf_8_keep_their_names(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    path.write_bytes(png(0))
    assert to_multipart(path, 0)[0] == "caf%E9.png"
    with path.open("rb") as file:
        assert to_multipart(file, 0) == ("caf%E9.png", png(0))


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        (3, TypeError, "got int"),
        ([3], TypeError, "got int"),
        (io.StringIO("x"), TypeError, "binary mode"),
        (PIL.Image.new("CMYK", (2, 2)), ValueError, "mode CMYK"),
        (np.zeros((2, 2, 3), np.float32), ValueError, "uint8"),
        (torch.zeros(3, 2, 2), ValueError, "uint8"),
    ],
)
def test_other_things_are_refused_in_words(source, kind, words) -> None:
    with pytest.raises(kind, match=words):
        to_multipart(as_list(source)[0], 0)


def test_the_key_is_read_from_the_answer_or_from_the_png(tmp_path: Path) -> None:
    tagged = to_png(IMAGE, {"unveil:key": KEY})
    (tmp_path / "moved.png").write_bytes(tagged)
    assert [read_key_id(source) for source in (protected(), tagged, tmp_path / "moved.png")] == [KEY] * 3
    assert [read_key_id(source) for source in (png(0), b"", IMAGE, tmp_path / "none.png")] == [None] * 4


class RecordingTransport(SyncTransport):
    """Records the forms that it is asked to send, and answers with as many images as each form has."""

    def __init__(self) -> None:
        self.forms: list[dict[str, Any]] = []

    async def request(
        self, method: str, path: str, *, files: Callable[[], Any] | None = None, **options: Any
    ) -> httpx.Response:
        assert files is not None
        self.forms.append(options["data"])
        sizes = dict.fromkeys(("width", "height", "original_width", "original_height"), 24)
        image = {"filename": "x", "key_id": KEY, "media_type": "image/png", "data": "", **sizes}
        return httpx.Response(200, json={"scheme": "tanaka", "params": {}, "images": [image] * len(files())})


def test_images_send_their_original_size_and_other_files_do_not() -> None:
    bare, tagged = protected(), to_png(IMAGE, {"unveil:key": KEY})
    client = BoundClient()
    client._transport = transport = RecordingTransport()
    images = run_blocking(decrypt(client, [bare, tagged, tagged, bare, bare], allow_changed=True))
    assert len(images) == 5
    assert [form.get("original_width") for form in transport.forms] == [["23"], None, ["23", "23"]]
    assert [form.get("original_height") for form in transport.forms] == [["21"], None, ["21", "21"]]
    assert [form["key_id"] for form in transport.forms] == [[KEY], [KEY] * 2, [KEY] * 2]
    assert {form["allow_changed"] for form in transport.forms} == {"true"}


def test_a_folder_is_packed_with_its_links_and_strange_names(tmp_path: Path) -> None:
    for name in (b"set/cat/1.png", b"elsewhere/2.png", b"set/cat/caf\xe9.png"):
        path = tmp_path / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(0))
    (tmp_path / "set/dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/dog/self").symlink_to(tmp_path / "set")
    with _open_as_zip(tmp_path / "set") as file, zipfile.ZipFile(file) as archive:
        assert archive.namelist() == ["cat/1.png", "cat/caf%E9.png", "dog/2.png"]
