"""NumPy files as strangers upload them: whatever is wrong, the reader raises its declared errors."""

import io
import re
import zipfile

import numpy as np
import pytest

from tests.damaged_arrays import DAMAGED, IMAGES, LABELS, SHAPE, npy, npz, with_header, zipped
from unveil.models.data.arrays import arrange_arrays, load_arrays, read_arrays
from unveil.models.data.image_dataset import DatasetUnreadable
from unveil.models.data.image_sources import read_images
from unveil.models.data.reader import DatasetTooLarge

MUTATIONS = 400


def read(file):
    return arrange_arrays("set", "the file", load_arrays("the file", io.BytesIO(file), 10**6), seed=0)


@pytest.mark.parametrize(("file", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_or_unusual_file_is_refused_with_the_reason(file, message, tmp_path):
    with pytest.raises(DatasetUnreadable, match=re.escape(message)):
        read(file)
    (tmp_path / "set.npz").write_bytes(file)
    with pytest.raises(DatasetUnreadable, match=re.escape(message)):
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
