"""NumPy files as strangers upload them: whatever is wrong, the reader raises its declared errors."""

import io
import struct
import zipfile

import numpy as np
import pytest

from unveil.models.data.arrays import arrange_arrays, load_arrays, read_arrays
from unveil.models.data.image_dataset import DatasetUnreadable
from unveil.models.data.image_sources import read_images
from unveil.models.data.reader import DatasetTooLarge

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3), np.uint8)
LABELS = np.array(["cat", "dog"] * 5)
MUTATIONS = 400


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(save=np.savez_compressed, **arrays):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def with_header(text, version=1):
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text


def read(file):
    return arrange_arrays("set", "the file", load_arrays("the file", io.BytesIO(file), 10**6), seed=0)


def zipped(compression):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("images.npy", npy(IMAGES))
    return file.getvalue()


SHAPE = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%s)}"


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (b"", "not a zip file"),
        (with_header(b"{'descr': ('''"), "cannot be read"),  # TokenError
        (with_header(b"{'descr': '|u1', 'fortran_order': False, 'shape': (-5, 4, 4, 3)}"), "the shape"),
        (with_header(SHAPE % b"10**9, 1"), "cannot be read"),
        (with_header(SHAPE % b"99999999999999999999999, 0"), "cannot be read"),  # OverflowError
        (with_header(b"{'descr': '|u1', 'fortran_order': False, [1]: (3,)}"), "cannot be read"),  # TypeError
        (with_header(b"(" * 9999), "cannot be read"),
        (with_header(b"-" * 9999 + b"1"), "cannot be read"),  # RecursionError
        (with_header(b" " * 10_001, version=2), "a header of 10001 bytes; the limit is 10000"),
        (b"\x93NUMPY\2\0\xff\xff\xff\xff", "a header of 4294967295 bytes; the limit is 10000"),
        (npy(np.array([{}], object)), "holds Python objects, which are never loaded"),
        (npy(IMAGES)[:-1], "its end is missing"),
        (zipped(zipfile.ZIP_LZMA), "compression method 14; save it with numpy.savez_compressed"),
        (zipped(zipfile.ZIP_BZIP2), "compression method 12; save it with numpy.savez_compressed"),
        (npz(images=IMAGES, labels=np.int64(3)), r"labels are int64 \[\]; give one number or name for each image"),
        (npz(images=IMAGES, labels=np.zeros(10, [("a", "i4")])), "give one number or name for each image"),
        (npz(images=IMAGES, labels=np.array(["cat\0dog", "\ud800"] * 5)), "not a short, readable name"),
        (npz(images=IMAGES, labels=np.full(10, 2**31 - 1, np.uint32).view("U1")), "not a short, readable name"),
        (npz(images=IMAGES, labels=np.array([b"\xff"] * 10)), "not a short, readable name"),
        (npz(images=IMAGES, labels=np.linspace(0, 1, 10)), "labels are float64; give whole numbers or names"),
        (npz(images=IMAGES, labels=np.full(10, np.nan)), "labels are float64; give whole numbers or names"),
        (npz(train=IMAGES, test=IMAGES, y_train=LABELS), "no labels for its test images; give them for both"),
        (npz(train=IMAGES, test=IMAGES, y_test=LABELS), "no labels for its training images; give them for both"),
        (npy(IMAGES[0]), "which is one colour image; store images as"),
        (npz(train=IMAGES[0], test=IMAGES[0]), "which is one colour image; store images as"),
        (npz(**{"images": IMAGES, "a\nb": IMAGES}), "give it a short, readable name"),
        (npz(images=IMAGES, Images=IMAGES), "the array images twice"),
    ],
    ids=range(27),
)
def test_a_damaged_or_unusual_file_is_refused_with_the_reason(file, message, tmp_path):
    with pytest.raises(DatasetUnreadable, match=message):
        read(file)
    (tmp_path / "set.npz").write_bytes(file)
    with pytest.raises(DatasetUnreadable, match=message):
        read_arrays("set", tmp_path / "set.npz")


def test_memory_is_taken_for_no_array_that_the_file_does_not_hold():
    with pytest.raises(DatasetUnreadable, match="its end is missing"):
        load_arrays("the file", io.BytesIO(with_header(SHAPE % b"1000000, 1000000, 1000000, 3")))
    with pytest.raises(DatasetTooLarge, match="the limit is 10"):
        load_arrays("the file", io.BytesIO(npy(IMAGES)), max_bytes=10)


def test_sound_files_are_read_whatever_their_header_and_order():
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asfortranarray(IMAGES), version=(3, 0))
    zip_end = np.frombuffer(b"PK\5\6" + bytes(18), np.uint8)  # an .npy that ends as a zip does
    ends_as_zip = np.concatenate([IMAGES.reshape(-1)[: -len(zip_end)], zip_end]).reshape(IMAGES.shape)
    assert (load_arrays("the file", file)["images"] == IMAGES).all()
    assert (load_arrays("the file", io.BytesIO(npy(ends_as_zip)))["images"] == ends_as_zip).all()
    assert read(npz(images=IMAGES, labels=LABELS.astype(bytes))).classes == ("cat", "dog")
    assert read(npz(np.savez, images=IMAGES, labels=LABELS)).classes == ("cat", "dog")
    assert read(npz(images=IMAGES, labels=np.arange(10.0) % 2)).classes == ("0", "1")


def test_python_callers_get_the_same_errors(tmp_path):
    for name, file in (("a.npy", with_header(b"{'descr': ('''")), ("a.npz", zipped(zipfile.ZIP_LZMA))):
        (tmp_path / name).write_bytes(file)
        with pytest.raises(ValueError, match=rf"{name}.*(cannot be read|compression method)"):
            read_images(tmp_path / name)


@pytest.mark.parametrize(
    "sound",
    [
        npy(IMAGES),
        npz(np.savez, images=IMAGES, labels=LABELS),
        npz(train=IMAGES, test=IMAGES, y_train=LABELS, y_test=LABELS),
    ],
    ids=["npy", "npz", "splits"],
)
def test_no_mutation_of_a_file_raises_another_error(sound):
    rng = np.random.default_rng(0)
    for _ in range(MUTATIONS):
        try:
            read(mutate(sound, rng))
        except (DatasetUnreadable, DatasetTooLarge):
            continue


def mutate(file, rng):
    """Bytes changed, cut out, repeated or swapped for those of syntax, mostly in headers and directories."""
    mutated = bytearray(file)
    for _ in range(rng.integers(1, 5)):
        start = int(rng.choice([rng.integers(160), len(mutated) - 1 - rng.integers(300), rng.integers(len(mutated))]))
        start = min(max(start, 0), len(mutated) - 1)
        length = int(rng.integers(1, 9))
        change = rng.integers(4)
        if change == 0:
            mutated[start : start + length] = rng.bytes(length)
        elif change == 1:
            del mutated[start : start + length]
        elif change == 2:
            mutated[start:start] = mutated[start : start + length]
        else:
            mutated[start : start + 1] = rng.choice([b"(", b"'", b"-", b"9" * 9, b"\0", b"\xff" * 4, b"O", b"L"])
        if len(mutated) < 2:
            break
    return bytes(mutated)
