import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.worker.sample_images import encode_pixels, noise
from unveil.models.data import datasets
from unveil.models.data.dead_leaves import dead_leaves
from unveil.models.data.image_dataset import DatasetMissing, DatasetUnreadable, interleave_classes
from unveil.models.data.sample import sample


def test_the_sample_has_photographs_to_test_and_none_of_them_to_train():
    data = sample()
    info = datasets.list_datasets()[0]
    assert data.train.shape == (info.train, 96, 96, 3)
    assert data.test.shape == (info.test, 96, 96, 3)
    assert not set(data.test_labels) & set(data.train_labels)
    assert len(np.unique(data.test.reshape(len(data.test), -1), axis=0)) == len(data.test)


def test_dead_leaves_are_reproducible_and_correlate_like_photographs():
    leaves = dead_leaves(20, seed=3)
    assert (leaves == dead_leaves(20, seed=3)).all()
    assert (leaves != dead_leaves(20, seed=4)).any()
    neighbours = np.corrcoef(leaves[:, :, :-1].ravel(), leaves[:, :, 1:].ravel())[0, 1]
    channels = np.corrcoef(leaves[..., 0].ravel(), leaves[..., 2].ravel())[0, 1]
    assert neighbours > 0.8
    assert channels > 0.5


def test_a_folder_in_stl10s_layout_is_found_and_read(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    images = sample().test[:4]
    for split, part in (("train", images[:3]), ("test", images[3:])):
        part.transpose(0, 3, 2, 1).tofile(folder / f"{split}_X.bin")
        np.arange(1, len(part) + 1, dtype=np.uint8).tofile(folder / f"{split}_y.bin")
    (folder / "class_names.txt").write_text("a\nb\nc\n")
    assert [d.name for d in datasets.list_datasets(tmp_path)] == ["sample", "stl10", "cifar10", "photos"]
    assert (datasets.list_datasets(tmp_path)[-1].train, datasets.list_datasets(tmp_path)[-1].test) == (3, 1)
    data = datasets.load("photos", tmp_path)
    assert (data.train == images[:3]).all()
    assert data.train_labels.tolist() == [0, 1, 2]
    assert data.classes == ("a", "b", "c")


def test_class_folders_are_cropped_resized_and_mixed(tmp_path):
    for name, tone in (("dark", 10), ("light", 240)):
        for split, count in (("train", 3), ("test", 1)):
            folder = tmp_path / "tones" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (120, 200), (tone, tone, tone)).save(folder / f"{i}.png")
    data = datasets.load("tones", tmp_path)
    assert data.train.shape == (6, 96, 96, 3)
    assert [set(pair) for pair in data.train_labels.reshape(3, 2).tolist()] == [{0, 1}] * 3  # any prefix is balanced
    assert all((image == (10, 240)[label]).all() for image, label in zip(data.train, data.train_labels, strict=True))
    assert (datasets.list_datasets(tmp_path)[-1].train, datasets.list_datasets(tmp_path)[-1].test) == (6, 2)


@pytest.mark.parametrize(("classes", "part"), [(2, 2), (4, 2), (5, 10), (10, 10), (10, 2)])
def test_neither_halves_nor_tenths_of_a_set_lack_a_class(classes, part):
    """Validation sets and public images are every n-th image."""
    labels = np.repeat(np.arange(classes), 100)
    taken = labels[interleave_classes(labels.tolist())]
    assert all(set(turn) == set(range(classes)) for turn in taken.reshape(100, classes).tolist())
    for first in range(part):
        assert set(taken[first::part].tolist()) == set(range(classes))


def test_image_files_in_folders_are_read_as_uploads_are(tmp_path):
    """16-bit grey is scaled, transparency becomes white, and EXIF orientation is applied."""
    folder = tmp_path / "mixed" / "things"
    folder.mkdir(parents=True)
    Image.fromarray(np.tile(np.arange(96, dtype=np.uint16) * 600, (96, 1))).save(folder / "0.png")
    turned = Image.fromarray(np.repeat(np.arange(96, dtype=np.uint8)[:, None, None], 96, 1).repeat(3, 2))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(folder / "1.jpg", exif=exif, quality=100)
    for i in range(2, 4):
        turned.save(folder / f"{i}.png")
    Image.new("RGBA", (96, 96), (200, 0, 0, 0)).save(folder / "4.png")
    data = datasets.load("mixed", tmp_path)
    images = np.concatenate([data.train, data.test])
    grey = np.tile((np.arange(96) * 600 >> 8).astype(np.uint8)[None, :, None], (96, 1, 3))
    assert sum((image == grey).all() for image in images) == 1
    upright = np.asarray(turned).transpose(1, 0, 2)[:, ::-1]  # a quarter turn clockwise
    assert sum(np.abs(image.astype(int) - upright).max() <= 3 for image in images) == 1
    assert sum((image == 255).all() for image in images) == 1


def test_a_preview_holds_the_first_test_images(tmp_path):
    stored = sample().test[:6]
    binary, split = tmp_path / "binary", tmp_path / "split" / "test" / "things"
    for folder in (binary, split, tmp_path / "split" / "train" / "things"):
        folder.mkdir(parents=True)
    for name in ("train_X.bin", "test_X.bin"):
        stored.transpose(0, 3, 2, 1).tofile(binary / name)
    for i, image in enumerate(stored):
        for part in (split, tmp_path / "split" / "train" / "things"):
            Image.fromarray(image).save(part / f"{i}.png")
    for name in ("sample", "binary", "split"):
        assert (datasets.preview(name, tmp_path, 4) == stored[:4]).all()
    with pytest.raises(DatasetMissing):
        datasets.preview("elsewhere", tmp_path, 4)


def write(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def pngs(names, side=32, first=0):
    return {
        name: encode_pixels(np.random.default_rng(first + i).integers(0, 256, (side, side, 3), dtype=np.uint8))
        for i, name in enumerate(names)
    }


def info(data_dir, name):
    return next(found for found in datasets.list_datasets(data_dir) if found.name == name)


def check_listing(data_dir, name):
    """What the listing says is what is read."""
    listed, data = info(data_dir, name), datasets.load(name, data_dir)
    assert (listed.train, listed.test) == (len(data.train), len(data.test))
    assert (listed.height, listed.width) == data.test.shape[1:3]
    assert listed.classes == data.classes
    return data


def test_a_changed_folder_is_read_anew(tmp_path):
    """Also where names, sizes and modification times stay as they were."""
    folder = tmp_path / "swap"
    write(folder, {f"cat/{i}.bmp": encode_pixels(np.full((32, 32, 3), i, np.uint8), "BMP") for i in range(10)})
    before = datasets.load("swap", tmp_path)
    assert datasets.load("swap", tmp_path) is before, "read once while nothing changes"
    file = folder / "cat/3.bmp"
    times = file.stat()
    file.write_bytes(encode_pixels(np.full((32, 32, 3), 200, np.uint8), "BMP"))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = datasets.load("swap", tmp_path)
    assert 200 in np.concatenate([after.train, after.test])
    assert after.sha256 != before.sha256
    write(folder, pngs([f"dog/{i}.png" for i in range(10)]))
    assert check_listing(tmp_path, "swap").classes == ("cat", "dog")


def test_the_hash_of_a_dataset_is_that_of_its_content(tmp_path):
    for name in ("one", "two"):
        write(tmp_path / name, pngs([f"a/{i}.png" for i in range(5)]))
    one, two = (datasets.load(name, tmp_path) for name in ("one", "two"))
    assert one.sha256 == two.sha256
    assert replace(one, train_labels=one.train_labels + 1).sha256 != one.sha256
    assert one.originals_sha256 is None
    protected = replace(one, train_originals=one.train, test_originals=one.test)
    assert protected.originals_sha256 is not None
    assert one.take(0, 0).sha256 != one.sha256


def test_class_names_are_lines_and_may_hold_blanks(tmp_path):
    parts = {
        f"{split}_{kind}.bin": data
        for split in ("train", "test")
        for kind, data in (("X", bytes(4 * 3 * 96 * 96)), ("y", bytes([1, 2, 1, 2])))
    }
    write(tmp_path / "words", {**parts, "class_names.txt": b"sea lion\r\npolar bear\n\n"})
    assert check_listing(tmp_path, "words").classes == ("sea lion", "polar bear")


def test_binary_files_of_another_size_are_read_by_their_labels_or_refused(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (900, 3, 32, 32), dtype=np.uint8)
    files = {"class_names.txt": b"cat\ndog\n"}
    for split in ("train", "test"):
        files |= {f"{split}_X.bin": images.tobytes(), f"{split}_y.bin": bytes([1, 2] * 450)}
    write(tmp_path / "small", files)
    data = check_listing(tmp_path, "small")
    assert np.array_equal(data.train, images.transpose(0, 3, 2, 1))
    (tmp_path / "small/train_y.bin").write_bytes(bytes([1, 2] * 400))
    assert "800 square images" in info(tmp_path, "small").note
    with pytest.raises(DatasetUnreadable, match="800 square images"):
        datasets.load("small", tmp_path)
    for split in ("train", "test"):
        (tmp_path / f"small/{split}_y.bin").write_bytes(bytes([0, 3] * 450))
    with pytest.raises(DatasetUnreadable, match="labels from 0 to 3; there are 2 classes"):
        datasets.load("small", tmp_path)


def test_every_image_is_read_whatever_its_suffix_and_the_rest_is_named(tmp_path):
    image = noise(32, 32)
    write(tmp_path / "suffixes", {
        **{f"cat/{i}.png": encode_pixels(noise(32, 32, seed=i)) for i in range(4)},
        **{f"dog/{i}.gif": encode_pixels(image, "GIF") for i in range(4)},
        **{f"eel/{i}.jfif": encode_pixels(image, "JPEG") for i in range(4)},
        **{f"fox/{i}": encode_pixels(image) for i in range(4)},
        "cat/README.txt": b"about", "cat/._1.png": b"\0\5\x16\7", ".DS_Store": b"x",
    })  # fmt: skip
    data = check_listing(tmp_path, "suffixes")
    assert data.classes == ("cat", "dog", "eel", "fox")
    assert data.test.shape[1:3] == (96, 96)
    assert "resized to 96x96 (16 of 16 images)" in data.notes
    assert "3 files skipped as no images: '.DS_Store', 'cat/._1.png', 'cat/README.txt'" in data.notes
    assert "a palette became RGB (4 of 16 images)" in data.notes


def test_a_named_pipe_is_skipped_and_named_and_a_broken_link_is_an_error(tmp_path):
    write(tmp_path / "pipes", pngs([f"cat/{i}.png" for i in range(6)]))
    os.mkfifo(tmp_path / "pipes/cat/pipe.png")  # to read it would be to wait for a writer
    assert "1 file skipped as no images: 'cat/pipe.png'" in check_listing(tmp_path, "pipes").notes
    (tmp_path / "pipes/cat/gone.png").symlink_to(tmp_path / "nothing")
    with pytest.raises(DatasetUnreadable, match=r"cat/gone\.png"):
        datasets.load("pipes", tmp_path)


def test_one_unreadable_file_is_named(tmp_path):
    write(tmp_path / "broken", {**pngs([f"cat/{i}.png" for i in range(6)]), "cat/9.png": b""})
    with pytest.raises(DatasetUnreadable, match=r"dataset broken: 'cat/9\.png' is empty"):
        datasets.load("broken", tmp_path)
    (tmp_path / "broken/cat/9.png").unlink()
    (tmp_path / "broken/cat/9.png").symlink_to("nowhere.png")
    with pytest.raises(DatasetUnreadable, match=r"9\.png cannot be read"):
        datasets.load("broken", tmp_path)


@pytest.mark.parametrize(
    ("train", "test"), [("Train", "Test"), ("training", "testing"), ("train", "val"), ("TRAIN", "TEST")]
)
def test_splits_are_known_by_every_usual_name(tmp_path, train, test):
    write(
        tmp_path / "set",
        pngs([f"{train}/{i}.png" for i in range(8)]) | pngs([f"{test}/{i}.png" for i in range(4)], first=9),
    )
    data = check_listing(tmp_path, "set")
    assert (len(data.train), len(data.test), data.classes) == (8, 4, ("unlabelled",))


def test_classes_of_one_split_are_kept_and_noted(tmp_path):
    folders = ("train/a", "train/b", "test/a", "test/c")
    write(tmp_path / "unlike", pngs([f"{folder}/{i}.png" for folder in folders for i in range(3)]))
    data = check_listing(tmp_path, "unlike")
    assert data.classes == ("a", "b", "c")
    assert data.notes[:2] == ("no test images of the class 'b'", "no training images of the class 'c'")
    assert not info(tmp_path, "unlike").labelled


def test_linked_folders_and_flat_folders_are_read_but_no_circles(tmp_path):
    write(tmp_path / "elsewhere", pngs([f"dog/{i}.png" for i in range(6)]))
    write(tmp_path / "data/set", pngs([f"cat/{i}.png" for i in range(6)]))
    (tmp_path / "data/set/dog").symlink_to(tmp_path / "elsewhere/dog")
    write(tmp_path / "data/flat", pngs([f"{i:05}.png" for i in range(6)]))
    (tmp_path / "data/flat/self").symlink_to(tmp_path / "data/flat")
    assert check_listing(tmp_path / "data", "set").classes == ("cat", "dog")
    assert check_listing(tmp_path / "data", "flat").classes == ("unlabelled",)


def test_file_names_need_not_be_utf_8(tmp_path):
    write(tmp_path / "set", pngs([os.fsdecode(b"caf\xe9/%d.png" % i) for i in range(6)]))
    assert check_listing(tmp_path, "set").classes == ("caf\ufffd",)


@pytest.mark.parametrize(
    ("arrays", "counts", "classes"),
    [
        ({"images": (10, 9, 8, 3)}, (8, 2), ("unlabelled",)),
        ({"images": (10, 3, 9, 8), "labels": (10,)}, (8, 2), ("0", "1")),
        ({"x_train": (4, 9, 8), "y_train": (4, 1), "x_test": (2, 9, 8), "y_test": (2, 1)}, (4, 2), ("0", "1")),
        ({"train": (4, 9, 8, 3), "test": (2, 9, 8, 3)}, (4, 2), ("unlabelled",)),
        ({"x_train": (10, 9, 8), "y_train": (10,)}, (8, 2), ("0", "1")),
        ({"train_images": (4, 9, 8, 1), "train_labels": (4,), "val_images": (3, 9, 8, 1), "test_images": (2, 9, 8, 1),
          "test_labels": (2,)}, (4, 2), ("0", "1")),
        ((10, 9, 8, 3), (8, 2), ("unlabelled",)),
    ],
    ids=str,
)  # fmt: skip
def test_numpy_files_are_datasets(tmp_path, arrays, counts, classes):
    def draw(name, shape):
        if len(shape) < 3:
            return np.arange(shape[0]).reshape(shape) % 2
        return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    if isinstance(arrays, tuple):
        np.save(tmp_path / "set.npy", draw("images", arrays))
    else:
        np.savez(tmp_path / "set.npz", **{name: draw(name, shape) for name, shape in arrays.items()})
    data = check_listing(tmp_path, "set")
    assert (len(data.train), len(data.test), data.classes) == (*counts, classes)
    assert data.train.shape[1:] == (9, 8, 3)
    assert datasets.load_folder(next(tmp_path.iterdir())).sha256 == data.sha256


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"images": np.zeros((10, 9, 8, 3))}, "holds float64; store images as uint8"),
        ({"images": np.zeros((10, 9), np.uint8)}, "has the shape"),
        ({"images": np.zeros((10, 9, 8, 2), np.uint8)}, "has the shape"),
        ({"images": np.zeros((10, 9, 8), np.uint8), "labels": np.zeros(9)}, "9 labels for 10 images"),
        ({"a": np.zeros(1), "b": np.zeros(1)}, "has the arrays a, b"),
        ({"images": np.array([{}])}, "never loaded"),
    ],
)
def test_a_numpy_file_that_is_not_a_dataset_has_a_reason(tmp_path, arrays, reason):
    np.savez(tmp_path / "set.npz", **arrays)
    assert reason in info(tmp_path, "set").note
    with pytest.raises(DatasetUnreadable, match=reason):
        datasets.load("set", tmp_path)


def test_a_folder_that_is_not_a_dataset_has_a_reason(tmp_path):
    write(tmp_path / "few", pngs(["a/1.png"]))
    listed = info(tmp_path, "few")
    assert not listed.available
    assert "at least 5 images" in listed.note


def test_folders_without_a_split_are_cut_80_20(tmp_path):
    folder = tmp_path / "one" / "things"
    folder.mkdir(parents=True)
    for i in range(10):
        Image.new("RGB", (96, 96), (i, i, i)).save(folder / f"{i}.png")
    data = datasets.load("one", tmp_path)
    assert (len(data.train), len(data.test)) == (8, 2)
    assert len(set(data.train[:, 0, 0, 0]) | set(data.test[:, 0, 0, 0])) == 10


@pytest.mark.parametrize(("name", "folder"), [("stl10", "stl10_binary"), ("cifar10", "cifar-10-batches-py")])
def test_a_failed_download_names_the_folder_for_the_files(name, folder, tmp_path, monkeypatch):
    """With the torchvision loader and no network."""
    import urllib.error
    import urllib.request

    def refuse(*_args, **_kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(DatasetMissing) as caught:
        datasets.load(name, tmp_path)
    assert folder in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_an_unknown_name_lists_the_known_datasets(tmp_path):
    with pytest.raises(DatasetMissing, match="sample, stl10, cifar10"):
        datasets.load("imagenet", tmp_path)
