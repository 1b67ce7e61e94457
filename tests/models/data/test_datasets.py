import numpy as np
import pytest
from PIL import Image

from unveil.models.data import datasets
from unveil.models.data.dead_leaves import dead_leaves
from unveil.models.data.image_dataset import DatasetMissing, interleave_classes
from unveil.models.data.npz import load_npz, save_npz
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


def test_a_dataset_survives_its_blob():
    data = sample().take(5, 3)
    again = load_npz("copy", save_npz(data))
    assert (again.train == data.train).all()
    assert (again.test_labels == data.test_labels).all()
    assert again.classes == data.classes
    assert again.train_originals is None
