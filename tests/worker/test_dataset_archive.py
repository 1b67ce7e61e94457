"""Archives that users and attackers upload: what is taken, how it is split, and which member a refusal names."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unveil.app.settings import Settings
from unveil.app.storage import Blobs
from unveil.models.data.datasets import load_npz
from unveil.worker import dataset_archive


def picture(value: int, width: int = 12, height: int = 12) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (value, 2 * value % 256, 3 * value % 256)).save(buffer, "PNG")
    return buffer.getvalue()


def decode(name: str, data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def archive(members: Mapping[str, bytes] | list[tuple[zipfile.ZipInfo | str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in members.items() if isinstance(members, Mapping) else members:
            made.writestr(name, data)
    return buffer.getvalue()


def classes(count: int, prefix: str = "", **size: int) -> dict[str, bytes]:
    return {f"{prefix}{kind}/{i}.png": picture(10 * i + k, **size) for k, kind in enumerate("ab") for i in range(count)}


class Desk:
    """Uploads archives as the service does and reads what the worker made of them."""

    def __init__(self, folder: Path, **limits: int) -> None:
        self.settings = Settings(blob_url=folder.as_uri(), **limits)
        self.blobs = Blobs(self.settings)

    def hand_in(self, data: bytes, originals: bytes | None = None, kind: str = "plain", size: int = 12, seed: int = 0):
        self.blobs.write("uploads/a.zip", data)
        head = {"op": "dataset", "archive": "uploads/a.zip", "originals": None, "blob": "datasets/a.npz"}
        if originals is not None:
            self.blobs.write("uploads/o.zip", originals)
            head["originals"] = "uploads/o.zip"
        order = {"name": "set", "kind": kind, "size": size, "seed": seed}
        return dataset_archive.handle({**head, **order}, self.blobs, self.settings, decode)

    def stored(self):
        return load_npz("set", self.blobs.read("datasets/a.npz"))

    def refusal(self, data: bytes, **how) -> str:
        answer = self.hand_in(data, **how)
        assert not self.blobs.exists("datasets/a.npz"), "a refused archive leaves nothing"
        return answer["refused"]["detail"]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.parametrize("root", ["", "my set/"])
def test_train_and_test_folders_are_kept_apart_below_any_root(desk: Desk, root: str) -> None:
    members = classes(3, f"{root}train/") | classes(2, f"{root}test/") | {f"{root}.DS_Store": b"x"}
    members["__MACOSX/._0.png"] = b"x"
    made = desk.hand_in(archive(members))
    assert (made["train"], made["test"], made["classes"]) == (6, 4, ["a", "b"])
    assert (made["width"], made["height"], made["has_originals"]) == (12, 12, False)
    assert [set(pair) for pair in desk.stored().train_labels.reshape(3, 2).tolist()] == [{0, 1}] * 3, "taken in turn"


@pytest.mark.parametrize("prefix", ["", "root/", "train/"])
def test_without_a_test_folder_a_fifth_is_drawn_by_the_seed(desk: Desk, prefix: str) -> None:
    packed = archive(classes(10, prefix))
    made = desk.hand_in(packed, seed=1)
    assert (made["train"], made["test"]) == (16, 4)
    first = desk.stored().test
    desk.hand_in(packed, seed=1)
    assert np.array_equal(desk.stored().test, first)
    desk.hand_in(packed, seed=2)
    assert not np.array_equal(desk.stored().test, first)


def test_images_without_class_folders_make_one_class(desk: Desk) -> None:
    assert desk.hand_in(archive({f"{i}.png": picture(i) for i in range(5)}))["classes"] == ["unlabelled"]


def test_plain_images_are_cropped_and_resized(desk: Desk) -> None:
    members = {f"a/{i}.png": picture(i, width=20 + i, height=40 - i) for i in range(5)}
    assert desk.hand_in(archive(members), size=16)["width"] == 16


def test_protected_images_stay_with_their_originals_through_the_split(desk: Desk) -> None:
    plain = {name: picture(i, 9, 7) for i, name in enumerate(classes(10))}
    protected = {name: picture_of(255 - decode(name, data)) for name, data in plain.items()}
    as_jpg_names = {name.replace(".png", ".bmp"): data for name, data in plain.items()}
    made = desk.hand_in(archive(protected), archive(as_jpg_names), kind="protected")
    assert (made["width"], made["height"], made["has_originals"]) == (9, 7, True)
    data = desk.stored()
    assert np.array_equal(255 - data.train, data.train_originals)
    assert np.array_equal(255 - data.test, data.test_originals)


def picture_of(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def member(name: str, **attributes: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil.png", "outside"),
        ("a/../../evil.png", "outside"),
        ("/etc/evil.png", "outside"),
        ("C:/evil.png", "outside"),
        ("a\\..\\evil.png", "outside"),
        ("a/b\x07.png", "control"),
        ("a/b/c/d/e.png", "class folder"),
        ("loose.png", "class folder"),
    ],
)
def test_a_name_that_should_not_be_is_refused_by_name(desk: Desk, name: str, reason: str) -> None:
    detail = desk.refusal(archive({**classes(5), name: picture(1)}))
    assert reason in detail
    assert repr(name) in detail


def test_a_symbolic_link_is_refused(desk: Desk) -> None:
    link = member("a/link.png", create_system=3, external_attr=(stat.S_IFLNK | 0o777) << 16)
    assert "'a/link.png' is a symbolic link" in desk.refusal(archive([(link, b"/etc/passwd")]))


def test_an_encrypted_member_is_refused(desk: Desk) -> None:
    packed = bytearray(archive(classes(5)))
    at = packed.index(b"PK\1\2")
    packed[at + 8] |= 1  # the flag in the directory
    assert "is encrypted" in desk.refusal(bytes(packed))


def test_a_name_given_twice_is_refused(desk: Desk) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        packed = archive([("a/1.png", picture(1)), ("a/1.png", picture(2))])
    assert "'a/1.png' is in the archive 2 times" in desk.refusal(packed)


def test_an_exploding_member_is_refused_unread(desk: Desk) -> None:
    assert "'a/bomb.png' unpacks to more than 200 times" in desk.refusal(archive({"a/bomb.png": bytes(8 * 2**20)}))


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_archive_members": 5}, "10 files; at most 5"),
        ({"max_unpacked_bytes": 100}, "at most 100 are taken"),
        ({"max_dataset_bytes": 4000}, "bytes of pixels"),
        ({"max_archive_members": 1}, "directory alone"),
    ],
)
def test_limits_hold(tmp_path: Path, limits: dict[str, int], reason: str) -> None:
    desk = Desk(tmp_path, **limits)
    answer = desk.hand_in(archive(classes(5)))
    assert answer["refused"]["code"] == "archive_too_large"
    assert reason in answer["refused"]["detail"]


def test_a_directory_that_would_fill_the_memory_is_refused_before_it_is_read(desk: Desk) -> None:
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 65535, 65535, 0xF0000000, 0, 0)
    assert "directory alone" in desk.refusal(b"PK\3\4" + end)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a zip"),
        (b"GIF89a", "not a zip"),
        (archive({}), "no images"),
        (archive({".hidden": b"x", "__MACOSX/x": b"y"}), "no images"),
        (archive(classes(2)), "files found: 4"),
        (archive(classes(5, "test/")), "none below train/"),
        (archive({**classes(5, "train/"), "other/1.png": picture(1)}), "'other/1.png' is neither below train/"),
        (archive(classes(5))[:-200] + archive(classes(5))[-22:], "damaged"),
    ],
)  # fmt: skip
def test_what_is_no_data_set_is_refused(desk: Desk, data: bytes, reason: str) -> None:
    assert reason in desk.refusal(data)


@pytest.mark.parametrize(
    ("prefix", "stray", "detail"),
    [
        ("", "README.txt", "'README.txt' is no image: remove it"),
        ("train/", "README.txt", "'README.txt' is no image: remove it"),
        ("set/", "README.txt", "'README.txt' is no image: remove it"),
        ("set/", "set/a/more/notes", "'set/a/more/notes' is no image: remove it"),
        ("set/", "set", "'set' is no image: remove it"),
        ("", "0.png", "'0.png' is not where it should be"),
    ],
)
def test_the_file_that_is_wrong_is_named_and_not_the_images(desk: Desk, prefix: str, stray: str, detail: str) -> None:
    refusal = desk.refusal(archive({**classes(5, prefix), stray: picture(1)}))
    assert refusal.startswith(detail)


def test_protected_images_of_two_sizes_are_refused(desk: Desk) -> None:
    members = {**classes(5), "b/9.png": picture(1, 13, 12)}
    detail = desk.refusal(archive(members), kind="protected")
    assert "share one size" in detail
    assert "'b/9.png'" in detail


@pytest.mark.parametrize(
    ("originals", "field", "reason"),
    [
        ({name: data for name, data in classes(5).items() if name != "a/3.png"}, "originals", "'a/3' is missing"),
        ({**classes(5), "b/9.png": picture(1)}, "originals", "'b/9' is missing from the protected archive"),
        (classes(5, width=13), "originals", "the originals are 13x12"),
        ({**classes(5), "a/3.jpg": picture(1)}, "originals", "differ in their suffix"),
        ({}, "originals", "no images"),
    ],
)
def test_originals_must_match(desk: Desk, originals: dict[str, bytes], field: str, reason: str) -> None:
    answer = desk.hand_in(archive(classes(5)), archive(originals), kind="protected")
    assert answer["refused"]["field"] == field
    assert reason in answer["refused"]["detail"]


def test_a_damaged_member_is_refused(desk: Desk) -> None:
    packed = bytearray(archive(classes(5)))
    at = packed.index(b"PK\3\4", 50)
    packed[at + 40 : at + 60] = bytes(20)
    assert "damaged" in desk.refusal(bytes(packed))
