import io
import mmap
import zipfile

import numpy as np
import pytest

from unveil.models.data.npz import load_npz, save_npz
from unveil.models.data.sample import sample


@pytest.fixture
def data():
    return sample().take(50, 40)  # more than a mebibyte each


def is_mapped(array):
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap)


def assert_same(read, data):
    for name in ("train", "train_labels", "test", "test_labels"):
        assert (getattr(read, name) == getattr(data, name)).all()
    assert (read.classes, read.train_originals, read.sha256) == (data.classes, None, data.sha256)


def test_large_arrays_of_a_local_file_are_mapped(data, tmp_path):
    path = tmp_path / "blob"
    with path.open("wb") as file:
        save_npz(data, file)
    with path.open("rb") as file:
        read = load_npz("copy", file)
    assert is_mapped(read.train)
    assert is_mapped(read.test)
    path.unlink()  # somebody deletes the dataset while an attack runs
    assert_same(read, data)


def test_a_mapped_array_can_be_changed_without_changing_the_file(data, tmp_path):
    path = tmp_path / "blob"
    with path.open("wb") as file:
        save_npz(data, file)
    before = path.read_bytes()
    with path.open("rb") as file:
        load_npz("copy", file).train[:] = 0
    assert path.read_bytes() == before


def test_a_file_that_cannot_be_mapped_is_read(data):
    file = io.BytesIO()
    save_npz(data, file)
    read = load_npz("copy", file)
    assert not is_mapped(read.train)
    assert_same(read, data)


def test_a_changed_pixel_in_a_mapped_array_is_found(data, tmp_path):
    path = tmp_path / "blob"
    with path.open("wb") as file:
        save_npz(data, file)
    raw = bytearray(path.read_bytes())
    position = raw.index(data.test.tobytes()) + 1000
    raw[position] ^= 1
    path.write_bytes(raw)
    with path.open("rb") as file, pytest.raises(zipfile.BadZipFile, match=r"test\.npy"):
        load_npz("copy", file)
