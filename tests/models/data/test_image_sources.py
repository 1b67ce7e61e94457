import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from tests.models.sample_images import photographs
from unveil.models.data.image_sources import read_images, read_labels

PLAIN = photographs(4, 24, 32)


def _folder(folder, images, names):
    for image, name in zip(images, names, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name)
    return folder


def _npy(tmp_path):
    np.save(tmp_path / "images.npy", PLAIN)
    return tmp_path / "images.npy"


def _npz(tmp_path):
    np.savez(tmp_path / "set.npz", images=PLAIN, labels=np.arange(4))
    return str(tmp_path / "set.npz")


SOURCES = {
    "array": lambda _: PLAIN,
    "PIL images": lambda _: [Image.fromarray(image) for image in PLAIN],
    "list of arrays": lambda _: list(PLAIN),
    "npy": _npy,
    "npz": _npz,
    "tensor": lambda _: torch.from_numpy(PLAIN).permute(0, 3, 1, 2),
    "float tensor": lambda _: torch.from_numpy(PLAIN).permute(0, 3, 1, 2) / 255,
    "dataset": lambda _: TensorDataset(torch.from_numpy(PLAIN).permute(0, 3, 1, 2), torch.arange(4)),
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES.keys())
def test_every_source_gives_the_same_images(make, tmp_path):
    assert (read_images(make(tmp_path)).images == PLAIN).all()


def test_the_bundled_sample_goes_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_images("sample").images.shape == (461, 96, 96, 3)
    _folder(tmp_path / "sample", photographs(5, 40, 40), [f"{i}.png" for i in range(5)])
    assert read_images("sample").images.shape == (5, 40, 40, 3)


def test_square_images_of_a_folder_keep_their_size(tmp_path):
    plain = photographs(5, 40, 40)
    read = read_images(str(_folder(tmp_path, plain, [f"{i}.png" for i in range(5)])))
    assert read.images.shape == plain.shape
    assert {image.tobytes() for image in read.images} == {image.tobytes() for image in plain}
    assert read.notes == ()


def test_images_that_do_not_keep_their_size_are_noted_or_refused(tmp_path):
    folder = _folder(tmp_path, np.zeros((2, 513, 513, 3), np.uint8), ["a.png", "b.png"])
    read = read_images(folder)
    assert read.images.shape == (2, 96, 96, 3)
    reason = "the images are 513x513, and only square ones of 8x8 to 512x512 keep their size"
    assert read.notes == ("resized to 96x96 (2 of 2 images)", reason)
    with pytest.raises(ValueError, match=reason):
        read_images(folder, may_resize=False)


def test_images_of_a_folder_come_with_their_names_in_the_order_of_paths(tmp_path):
    plain = photographs(3, 24, 24)
    read = read_images(_folder(tmp_path, plain, ["test/dog/b.png", "train/cat/c.png", "train/cat/a.png"]))
    assert read.names == ("test/dog/b", "train/cat/a", "train/cat/c")
    assert (read.images == plain[[0, 2, 1]]).all()
    assert read.labels.tolist() == [1, 0, 0]


def test_labels_come_with_the_source(tmp_path):
    assert read_images(SOURCES["dataset"](tmp_path)).labels.tolist() == [0, 1, 2, 3]
    assert read_images(_npz(tmp_path)).labels.tolist() == [0, 1, 2, 3]
    names = ["cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png", "dog/2.png"]
    classes = _folder(tmp_path / "classes", photographs(6, 24, 24), names)
    assert sorted(read_images(classes).labels.tolist()) == [0, 0, 0, 1, 1, 1]
    with pytest.raises(ValueError, match=r"one entry an image; got \[3\] for 4 images"):
        read_labels([1, 2, 3], PLAIN)


def test_every_conversion_is_noted(tmp_path):
    assert read_images(PLAIN[..., 0]).notes == ("grey images became RGB",)
    assert read_images(PLAIN / 255).notes == ("values in 0..1 were scaled to 0..255 and rounded",)
    read = read_images(_folder(tmp_path, photographs(5, 24, 32), [f"{i}.png" for i in range(5)]))
    assert read.images.shape == (5, 96, 96, 3)
    assert read.notes == (
        "cropped to the central square (5 of 5 images)",
        "resized to 96x96 (5 of 5 images)",
        "the images are 32x24, and only square ones of 8x8 to 512x512 keep their size",
    )
    assert read_images(PLAIN).notes == ()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (PLAIN.transpose(0, 3, 1, 2), r"got \[4, 3, 24, 32\]: use array.transpose\(0, 2, 3, 1\)"),
        (PLAIN[..., :2], r"shape \[N, height, width, 3\]; got \[4, 24, 32, 2\]"),
        (PLAIN.astype(np.int32), r"must be uint8; got int32"),
        (PLAIN / 127.5 - 1, r"must lie in 0..1; got -1 to 0.87451"),
        (PLAIN * np.nan, r"must lie in 0..1; got nan to nan"),
        ([PLAIN[0], PLAIN[1][:20]], "one size; got 32x24, 32x20: resize them"),
        ([], "holds no image"),
        (["text"] * 2, "No such file"),
        ([3, 4], r"images\[0\] is a int; give a uint8 array"),
        (5, "images is a int; give a uint8 array"),
        ("missing", "No such file"),
    ],
)
def test_a_wrong_source_is_refused_with_what_to_do(source, message):
    with pytest.raises((ValueError, OSError), match=message):
        read_images(source)


def test_an_archive_without_one_array_of_images_is_refused(tmp_path):
    np.savez(tmp_path / "set.npz", a=PLAIN, b=PLAIN)
    with pytest.raises(ValueError, match="holds a, b; name the array of images `images`"):
        read_images(tmp_path / "set.npz")
