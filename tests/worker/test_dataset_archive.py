"""Archives that users and attackers upload: what is taken, how it is split, and which member a refusal names."""

from __future__ import annotations

import io
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.damaged_arrays import DAMAGED
from tests.worker.sample_images import encode_pixels, noise, png_of_16_bits
from unveil.app.rpc.messages import ArchiveRequest, Rejection, RequestRejected
from unveil.app.settings import Settings
from unveil.app.storage import BlobStore
from unveil.models.data.npz import load_npz
from unveil.worker import dataset_archive


def make_png(value: int, width: int = 12, height: int = 12) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (value, 2 * value % 256, 3 * value % 256)).save(buffer, "PNG")
    return buffer.getvalue()


def decode(name: str, data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def make_zip(members: Mapping[str, bytes] | list[tuple[zipfile.ZipInfo | str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zip_file:
        for name, data in members.items() if isinstance(members, Mapping) else members:
            zip_file.writestr(name, data)
    return buffer.getvalue()


def make_class_folders(count: int, prefix: str = "", **size: int) -> dict[str, bytes]:
    return {
        f"{prefix}{kind}/{i}.png": make_png(10 * i + k, **size) for k, kind in enumerate("ab") for i in range(count)
    }


class ArchiveUploader:
    """Uploads archives as the service does and reads what the worker made of them."""

    def __init__(self, folder: Path, **limits: int) -> None:
        self.settings = Settings(blob_url=folder.as_uri(), **limits)
        self.blobs = BlobStore(self.settings)

    def upload(self, data: bytes, originals: bytes | None = None, kind: str = "plain", size: int = 12, seed: int = 0):
        self.blobs.write("uploads/a.zip", data)
        if originals is not None:
            self.blobs.write("uploads/o.zip", originals)
        request = ArchiveRequest(
            account_id="acct_1", name="set", kind=kind, size=size, seed=seed, archive_blob="uploads/a.zip",
            originals_blob=None if originals is None else "uploads/o.zip", dataset_blob="datasets/a.npz",
        )  # fmt: skip
        return dataset_archive.build_from_upload(request, self.blobs, self.settings)

    def load_stored(self):
        with self.blobs.open("datasets/a.npz") as file:
            return load_npz("set", file)

    def rejection(self, data: bytes, **how) -> Rejection:
        with pytest.raises(RequestRejected) as rejected:
            self.upload(data, **how)
        assert not self.blobs.exists("datasets/a.npz"), "a rejected archive leaves nothing"
        (rejection,) = rejected.value.rejections
        return rejection

    def refusal_detail(self, data: bytes, **how) -> str:
        return self.rejection(data, **how).detail


def make_npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def make_npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def draw_images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def uploader(tmp_path: Path) -> ArchiveUploader:
    return ArchiveUploader(tmp_path)


@pytest.mark.parametrize("root", ["", "my set/"])
def test_train_and_test_folders_are_kept_apart_below_any_root(uploader: ArchiveUploader, root: str) -> None:
    members = (
        make_class_folders(3, f"{root}train/") | make_class_folders(2, f"{root}test/") | {f"{root}.DS_Store": b"x"}
    )
    members["__MACOSX/._0.png"] = b"x"
    reply = uploader.upload(make_zip(members))
    assert (reply.train_count, reply.test_count, reply.classes) == (6, 4, ["a", "b"])
    assert (reply.width, reply.height, reply.has_originals) == (12, 12, False)
    assert [set(pair) for pair in uploader.load_stored().train_labels.reshape(3, 2).tolist()] == [{0, 1}] * 3, (
        "taken in turn"
    )


@pytest.mark.parametrize("prefix", ["", "root/", "train/"])
def test_without_a_test_folder_a_fifth_is_drawn_by_the_seed(uploader: ArchiveUploader, prefix: str) -> None:
    archive_bytes = make_zip(make_class_folders(10, prefix))
    reply = uploader.upload(archive_bytes, seed=1)
    assert (reply.train_count, reply.test_count) == (16, 4)
    first = uploader.load_stored().test
    uploader.upload(archive_bytes, seed=1)
    assert np.array_equal(uploader.load_stored().test, first)
    uploader.upload(archive_bytes, seed=2)
    assert not np.array_equal(uploader.load_stored().test, first)


def test_images_without_class_folders_make_one_class(uploader: ArchiveUploader) -> None:
    assert uploader.upload(make_zip({f"{i}.png": make_png(i) for i in range(5)})).classes == ["unlabelled"]


def test_plain_images_are_cropped_and_resized(uploader: ArchiveUploader) -> None:
    members = {f"a/{i}.png": make_png(i, width=20 + i, height=40 - i) for i in range(5)}
    assert uploader.upload(make_zip(members), size=16).width == 16


def test_protected_images_stay_with_their_originals_through_the_split(uploader: ArchiveUploader) -> None:
    plain = {name: make_png(i, 9, 7) for i, name in enumerate(make_class_folders(10))}
    protected = {name: encode_pixels(255 - decode(name, data)) for name, data in plain.items()}
    as_jpg_names = {name.replace(".png", ".bmp"): data for name, data in plain.items()}
    reply = uploader.upload(make_zip(protected), make_zip(as_jpg_names), kind="protected")
    assert (reply.width, reply.height, reply.has_originals) == (9, 7, True)
    data = uploader.load_stored()
    assert np.array_equal(255 - data.train, data.train_originals)
    assert np.array_equal(255 - data.test, data.test_originals)


def make_zip_info(name: str, **attributes: int) -> zipfile.ZipInfo:
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
def test_a_name_that_should_not_be_is_refused_by_name(uploader: ArchiveUploader, name: str, reason: str) -> None:
    detail = uploader.refusal_detail(make_zip({**make_class_folders(5), name: make_png(1)}))
    assert reason in detail
    assert repr(name) in detail


def zip_of_bytes(names: list[bytes], extra: Callable[[bytes], bytes] = lambda name: b"") -> bytes:
    """A zip by hand, whose names are the bytes given, without the UTF-8 flag."""
    body = directory = b""
    for i, name in enumerate(names):
        data, more = make_png(i), extra(name)
        head = struct.pack(
            "<HHHHHIIIHH", 20, 0, 0, 0, 33, zlib.crc32(data), len(data), len(data), len(name), len(more)
        )  # fmt: skip
        directory += (
            b"PK\1\2" + struct.pack("<H", 20) + head + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name + more
        )
        body += b"PK\3\4" + head + name + more + data
    end = struct.pack("<HHHHIIH", 0, 0, len(names), len(names), len(directory), len(body), 0)
    return body + directory + b"PK\5\6" + end


def unicode_path(name: bytes) -> bytes:
    """Info-ZIP's extra field 0x7075."""
    body = struct.pack("<BI", 1, zlib.crc32(name)) + name.decode("cp932").encode()
    return struct.pack("<HH", 0x7075, len(body)) + body


@pytest.mark.parametrize(
    ("encoding", "classes"),
    [
        ("utf-8", ["犬", "猫"]),
        ("cp932", ["犬", "猫"]),
        ("gbk", ["狗", "猫"]),
        ("cp932", ["ソファ", "表"]),  # their second byte is a backslash
        ("cp437", ["Zürich", "éclair"]),
        ("utf-8", ["e\u0301"]),
    ],
)
def test_names_of_every_country_are_read(uploader: ArchiveUploader, encoding: str, classes: list[str]) -> None:
    names = [f"{name}/{i}.png".encode(encoding) for name in classes for i in range(6)]
    assert uploader.upload(zip_of_bytes(names)).classes == [unicodedata.normalize("NFC", name) for name in classes]


def test_info_zips_unicode_path_has_the_last_word(uploader: ArchiveUploader) -> None:
    names = [f"ネコ/{i}.png".encode("cp932") for i in range(6)]
    assert uploader.upload(zip_of_bytes(names, unicode_path)).classes == ["ネコ"]


def test_backslashes_between_folders_are_read_where_the_program_writes_nothing_else(uploader: ArchiveUploader) -> None:
    names = [f"{split}\\{name}\\{i}.png".encode() for split in ("train", "test") for name in "ab" for i in range(3)]
    reply = uploader.upload(zip_of_bytes(names))
    assert (reply.train_count, reply.test_count, reply.classes) == (6, 6, ["a", "b"])


def test_one_letter_in_two_forms_is_one_letter(uploader: ArchiveUploader) -> None:
    composed, decomposed = (
        {unicodedata.normalize(form, f"é/{form}{i}.png"): make_png(i) for i in range(6)} for form in ("NFC", "NFD")
    )
    assert uploader.upload(make_zip(composed | decomposed)).classes == ["é"]
    pairs = [{unicodedata.normalize(form, f"é/ö{i}.png"): make_png(i) for i in range(6)} for form in ("NFC", "NFD")]
    assert uploader.upload(make_zip(pairs[0]), make_zip(pairs[1]), kind="protected").has_originals


def test_litter_is_skipped_and_named_and_a_dotted_class_stays(uploader: ArchiveUploader) -> None:
    members = {f"{name}/{i}.png": make_png(i) for name in (".net", "java") for i in range(5)}
    reply = uploader.upload(make_zip({**members, "__MACOSX/java/._1.png": b"x", "java/Thumbs.db": b"x"}))
    assert reply.classes == [".net", "java"]
    assert "2 files skipped as no images: '__MACOSX/java/._1.png', 'java/Thumbs.db'" in reply.note


def test_pairs_below_folders_of_their_own_are_pairs(uploader: ArchiveUploader) -> None:
    protected, originals = ({f"{name}/{i}.png": make_png(i) for i in range(6)} for name in ("protected", "originals"))
    assert uploader.upload(make_zip(protected), make_zip(originals), kind="protected").has_originals


def smooth_with_alpha(i: int) -> bytes:
    return encode_pixels(np.dstack([np.full((12, 12, 3), i, np.uint8), np.zeros((12, 12), np.uint8)]))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (smooth_with_alpha(1), "transparency was composited onto white"),
        (png_of_16_bits(np.arange(432, dtype=np.uint16).reshape(12, 12, 3) * 99), "16 bits a channel"),
        (encode_pixels(noise(12, 12), "JPEG"), "a JPEG file loses detail"),
        (encode_pixels(noise(12, 12), "GIF"), "a palette became RGB"),
    ],
)
@pytest.mark.parametrize("field", ["archive", "originals"])
def test_protected_images_and_their_originals_are_taken_exactly_or_refused(
    uploader: ArchiveUploader, data: bytes, reason: str, field: str
) -> None:
    good = make_class_folders(5)
    archives = {"archive": good, "originals": good, field: {**good, "b/3.png": data}}
    rejection = uploader.rejection(
        make_zip(archives["archive"]), originals=make_zip(archives["originals"]), kind="protected"
    )
    assert (rejection.code, rejection.pointer) == ("not_exact", f"/{field}")
    assert "'b/3.png'" in rejection.detail
    assert reason in rejection.detail


def test_conversions_of_plain_images_are_counted(uploader: ArchiveUploader) -> None:
    members = {**make_class_folders(5), "a/7.png": smooth_with_alpha(1), "a/8.png": smooth_with_alpha(2)}
    assert uploader.upload(make_zip(members)).note == "transparency was composited onto white (2 of 12 images)"
    assert uploader.load_stored().notes == ("transparency was composited onto white (2 of 12 images)",)


def test_16_bit_images_of_one_dataset_are_scaled_alike(uploader: ArchiveUploader) -> None:
    """By the most bits that one of them needs: 12 bits in a 16-bit file stay as bright as they were."""
    values = [np.full((12, 12), top, np.uint16) for top in (4095, 1000, 100, 4000, 2048)]
    reply = uploader.upload(make_zip({f"a/{i}.png": png_of_16_bits(part) for i, part in enumerate(values)}))
    data = uploader.load_stored()
    pixels = np.concatenate([data.train, data.test])[:, 0, 0, 0]
    assert sorted(pixels.tolist()) == sorted(int(part[0, 0]) >> 4 for part in values)
    assert "12 bits a channel were scaled to 8 (5 of 5 images)" in reply.note


def test_a_symbolic_link_is_refused(uploader: ArchiveUploader) -> None:
    link = make_zip_info("a/link.png", create_system=3, external_attr=(stat.S_IFLNK | 0o777) << 16)
    assert "'a/link.png' is a symbolic link" in uploader.refusal_detail(make_zip([(link, b"/etc/passwd")]))


def test_an_encrypted_member_is_refused(uploader: ArchiveUploader) -> None:
    archive_bytes = bytearray(make_zip(make_class_folders(5)))
    offset = archive_bytes.index(b"PK\1\2")
    archive_bytes[offset + 8] |= 1  # the flag in the directory
    assert "is encrypted" in uploader.refusal_detail(bytes(archive_bytes))


def test_a_name_given_twice_is_refused(uploader: ArchiveUploader) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive_bytes = make_zip([("a/1.png", make_png(1)), ("a/1.png", make_png(2))])
    assert "'a/1.png' is in the archive 2 times" in uploader.refusal_detail(archive_bytes)


def test_an_exploding_member_is_refused_unread(uploader: ArchiveUploader) -> None:
    assert "'a/bomb.png' unpacks to more than 200 times" in uploader.refusal_detail(
        make_zip({"a/bomb.png": bytes(8 * 2**20)})
    )


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_archive_members": 5}, "10 files; the limit is 5"),
        ({"max_unpacked_bytes": 100}, "the limit is 100"),
        ({"max_dataset_bytes": 4000}, "bytes of pixels"),
        ({"max_archive_members": 1}, "directory alone"),
    ],
)
def test_limits_hold(tmp_path: Path, limits: dict[str, int], reason: str) -> None:
    uploader = ArchiveUploader(tmp_path, **limits)
    rejection = uploader.rejection(make_zip(make_class_folders(5)))
    assert rejection.code == "archive_too_large"
    assert reason in rejection.detail


def test_a_directory_that_would_fill_the_memory_is_refused_before_it_is_read(uploader: ArchiveUploader) -> None:
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 65535, 65535, 0xF0000000, 0, 0)
    assert "directory alone" in uploader.refusal_detail(b"PK\3\4" + end)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a zip"),
        (b"GIF89a", "a single image; upload a zip file of images"),
        (make_zip({}), "no images"),
        (make_zip({".hidden": b"x", "__MACOSX/x": b"y"}), "no images"),
        (make_zip(make_class_folders(2)), "files found: 4"),
        (make_zip(make_class_folders(5, "test/")), "none below train/"),
        (
            make_zip({**make_class_folders(5, "train/"), "other/1.png": make_png(1)}),
            "'other/1.png' is neither below train/",
        ),
        (make_zip(make_class_folders(5))[:-200] + make_zip(make_class_folders(5))[-22:], "damaged"),
    ],
    # Every test process must collect the same ids; the bytes of a zip hold the time at which it was made.
    ids=lambda value: "archive" if isinstance(value, bytes) else value,
)  # fmt: skip
def test_what_is_no_dataset_is_refused(uploader: ArchiveUploader, data: bytes, reason: str) -> None:
    assert reason in uploader.refusal_detail(data)


@pytest.mark.parametrize(
    ("prefix", "stray", "detail"),
    [
        ("", "README.txt", "'README.txt' is not an image: remove it"),
        ("train/", "README.txt", "'README.txt' is not an image: remove it"),
        ("set/", "README.txt", "'README.txt' is not an image: remove it"),
        ("set/", "set/a/more/notes", "'set/a/more/notes' is not an image: remove it"),
        ("set/", "set", "'set' is not an image: remove it"),
        ("", "0.png", "'0.png' is not where it should be"),
    ],
)
def test_the_file_that_is_wrong_is_named_and_not_the_images(
    uploader: ArchiveUploader, prefix: str, stray: str, detail: str
) -> None:
    refusal = uploader.refusal_detail(make_zip({**make_class_folders(5, prefix), stray: make_png(1)}))
    assert refusal.startswith(detail)


def test_protected_images_of_two_sizes_are_refused(uploader: ArchiveUploader) -> None:
    members = {**make_class_folders(5), "b/9.png": make_png(1, 13, 12)}
    detail = uploader.refusal_detail(make_zip(members), kind="protected")
    assert "share one size" in detail
    assert "'b/9.png'" in detail


@pytest.mark.parametrize(
    ("originals", "field", "reason"),
    [
        (
            {name: data for name, data in make_class_folders(5).items() if name != "a/3.png"},
            "originals",
            "'a/3' is missing",
        ),
        ({**make_class_folders(5), "b/9.png": make_png(1)}, "originals", "'b/9' is missing from the protected archive"),
        (make_class_folders(5, width=13), "originals", "test images of 13x12"),
        ({**make_class_folders(5), "a/3.jpg": make_png(1)}, "originals", "differ in their suffix"),
        ({}, "originals", "no images"),
    ],
)
def test_originals_must_match(uploader: ArchiveUploader, originals: dict[str, bytes], field: str, reason: str) -> None:
    rejection = uploader.rejection(make_zip(make_class_folders(5)), originals=make_zip(originals), kind="protected")
    assert rejection.pointer == f"/{field}"
    assert reason in rejection.detail


def test_reconstructions_need_no_training_images_and_keep_their_names(uploader: ArchiveUploader) -> None:
    reply = uploader.upload(make_zip(make_class_folders(2, "test/")), kind="reconstructed")
    data = uploader.load_stored()
    assert (reply.train_count, reply.test_count, sorted(data.test_names)) == (0, 4, ["a/0", "a/1", "b/0", "b/1"])
    assert data.test[data.test_names.index("b/1"), 0, 0].tolist() == [11, 22, 33]
    both = {**make_class_folders(2, "train/"), **make_class_folders(1, "test/")}
    uploader.upload(make_zip(both), kind="reconstructed")
    assert sorted(uploader.load_stored().test_names) == ["a/0", "b/0"]
    uploader.upload(make_zip({"7.png": make_png(7), "3.png": make_png(3)}), kind="reconstructed")
    assert sorted(uploader.load_stored().test_names) == ["3", "7"]


def test_a_damaged_member_is_refused(uploader: ArchiveUploader) -> None:
    archive_bytes = bytearray(make_zip(make_class_folders(5)))
    offset = archive_bytes.index(b"PK\3\4", 50)
    archive_bytes[offset + 40 : offset + 60] = bytes(20)
    assert "damaged" in uploader.refusal_detail(bytes(archive_bytes))


def test_a_numpy_file_is_split_by_the_seed_and_its_conversions_are_counted(uploader: ArchiveUploader) -> None:
    reply = uploader.upload(make_npy(draw_images(10, 20, 30)), size=12, seed=1)
    assert (reply.train_count, reply.test_count, reply.width, reply.classes) == (8, 2, 12, ["unlabelled"])
    assert reply.note == (
        "grey became RGB; cropped to the central square (10 of 10 images); resized to 12x12 (10 of 10 images)"
    )
    assert not reply.labelled
    first = uploader.load_stored()
    uploader.upload(make_npy(draw_images(10, 20, 30)), size=12, seed=2)
    assert first.sha256 != uploader.load_stored().sha256


def test_an_npz_brings_splits_and_labels(uploader: ArchiveUploader) -> None:
    images = {"x_train": draw_images(6, 12, 12, 3), "x_test": draw_images(4, 12, 12, 3, seed=1)}
    reply = uploader.upload(make_npz(**images, y_train=np.arange(6) % 2, y_test=np.arange(4) % 2))
    assert (reply.train_count, reply.test_count, reply.classes, reply.labelled) == (6, 4, ["0", "1"], True)
    assert reply.note == ""
    assert np.array_equal(uploader.load_stored().train, images["x_train"])


def test_protected_numpy_images_are_taken_exactly_and_paired_by_position(uploader: ArchiveUploader) -> None:
    plain = draw_images(10, 14, 12, 3)
    reply = uploader.upload(make_npy(255 - plain), make_npy(plain), kind="protected")
    assert (reply.width, reply.height, reply.has_originals) == (12, 14, True)
    stored = uploader.load_stored()
    assert np.array_equal(255 - stored.test_originals, stored.test)
    assert np.array_equal(255 - stored.train_originals, stored.train)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (make_zip(make_class_folders(5))[:-60], "the zip is cut off (its directory is missing)"),
        (b"\x1f\x8b\x08" + bytes(99), "this is a gzip file, not a zip file; pack the images as zip"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(99), "this is a 7z archive, not a zip file"),
        (b"Rar!\x1a\x07\x01" + bytes(99), "this is a RAR archive, not a zip file"),
        (make_png(1), "this is a single image; upload a zip file of images"),
        (b"{}", "this is not a zip file"),
        (make_zip({"set.zip": make_zip(make_class_folders(5))}), "'set.zip' is not an image: remove it"),
    ],
    ids=["cut off", "gzip", "7z", "RAR", "image", "JSON", "zip in a zip"],
)
def test_what_is_no_zip_of_images_is_named(uploader: ArchiveUploader, data: bytes, reason: str) -> None:
    assert reason in uploader.refusal_detail(data)


@pytest.mark.parametrize(
    ("archive", "originals", "field", "detail"),
    [
        (make_npy(np.zeros((10, 9, 9, 3))), None, "/archive", "holds float64; store images as uint8"),
        (make_npy(np.array([{}], object)), None, "/archive", "holds Python objects, which are never loaded"),
        (make_npy(draw_images(10, 9, 9, 3))[:-100], None, "/archive", "the NumPy file cannot be read"),
        (make_npz(a=np.zeros(1), b=np.zeros(1)), None, "/archive", "has the arrays a, b"),
        (make_npy(draw_images(4, 9, 9, 3)), None, "/archive", "at least 5 images"),
        (make_npy(draw_images(10, 9, 9, 3)), make_npy(draw_images(9, 9, 9, 3)), "/originals", "same order"),
        (make_npy(draw_images(10, 9, 9, 3)), make_zip(make_class_folders(5)), "/originals", "in a NumPy file as well"),
        (make_zip(make_class_folders(5)), make_npy(draw_images(10, 9, 9, 3)), "/originals", "not a zip file"),
    ],
    ids=[
        "floats", "objects", "cut off", "unknown names", "too few", "fewer originals", "originals in a zip file",
        "protected in a zip file",
    ],
)  # fmt: skip
def test_a_numpy_file_that_is_no_dataset_is_refused(
    uploader: ArchiveUploader, archive: bytes, originals: bytes | None, field: str, detail: str
) -> None:
    kind = "plain" if originals is None else "protected"
    assert "has no names" in uploader.refusal_detail(make_npy(draw_images(10, 9, 9, 3)), kind="reconstructed")
    rejection = uploader.rejection(archive, originals=originals, kind=kind)
    assert (rejection.code, rejection.pointer) == ("bad_archive", field)
    assert detail in rejection.detail


@pytest.mark.parametrize(("file", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_numpy_file_is_refused_with_the_reason(uploader: ArchiveUploader, file: bytes, message: str) -> None:
    rejection = uploader.rejection(file)
    assert (rejection.code, rejection.pointer) == ("bad_archive", "/archive")
    assert message in rejection.detail
    sound = make_npy(draw_images(10, 9, 9, 3))
    assert uploader.rejection(sound, originals=file, kind="protected").pointer == "/originals"


def test_an_array_is_refused_by_its_header_before_memory_is_taken_for_it(tmp_path: Path) -> None:
    uploader = ArchiveUploader(tmp_path, max_dataset_bytes=10_000)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2**20, 2**20, 3)})
    assert uploader.rejection(header.getvalue()).code == "archive_too_large"
    assert uploader.rejection(make_npz(images=np.zeros((50, 96, 96, 3), np.uint8))).code == "archive_too_large"
    assert uploader.rejection(make_npy(draw_images(10, 8, 8)), size=96).code == "archive_too_large"


def test_numbered_files_in_one_folder_are_a_dataset_without_classes(uploader: ArchiveUploader) -> None:
    reply = uploader.upload(make_zip({f"frames/{i:04}.png": make_png(i) for i in range(10)}))
    assert (reply.train_count, reply.test_count) == (8, 2)


def test_a_file_without_its_class_folder_is_the_misfit_that_is_named(uploader: ArchiveUploader) -> None:
    members = {**make_class_folders(5, "set/"), "set/stray.png": make_png(1)}
    folder_and_file = {f"x.png/train/{i}.png": make_png(i) for i in range(6)} | {"x.png": make_png(1)}
    assert "'x.png' is not where it should be" in uploader.refusal_detail(make_zip(folder_and_file))
    assert "'set/stray.png' is not where it should be" in uploader.refusal_detail(make_zip(members))
