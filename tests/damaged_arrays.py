"""NumPy files that are damaged, hostile or no dataset, with a part of the reason that names each."""

import io
import struct
import zipfile

import numpy as np

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3), np.uint8)
LABELS = np.array(["cat", "dog"] * 5)


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


def zipped(compression):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("images.npy", npy(IMAGES))
    return file.getvalue()


SHAPE = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%s)}"

DAMAGED = {
    "empty": (b"", "not a zip file"),
    "magic alone": (b"\x93NUMPY", "cannot be read"),
    "open string": (with_header(b"{'descr': ('''"), "cannot be read"),  # TokenError
    "negative length": (with_header(SHAPE % b"-5, 4, 4, 3"), "the shape"),
    "length is an expression": (with_header(SHAPE % b"10**9, 1"), "cannot be read"),
    "length beyond 64 bits": (with_header(SHAPE % b"99999999999999999999999, 0"), "cannot be read"),  # OverflowError
    "unhashable key": (with_header(b"{'descr': '|u1', 'fortran_order': False, [1]: (3,)}"), "cannot be read"),
    "brackets": (with_header(b"(" * 9999), "cannot be read"),
    "signs": (with_header(b"-" * 9999 + b"1"), "cannot be read"),  # RecursionError
    "long header": (with_header(b" " * 10_001, version=2), "a header of 10001 bytes; the limit is 10000"),
    "length of the header": (b"\x93NUMPY\2\0\xff\xff\xff\xff", "a header of 4294967295 bytes; the limit is 10000"),
    "unknown version": (b"\x93NUMPY\x09\0" + npy(IMAGES)[8:], "the limit is 10000"),
    "objects": (npy(np.array([{}], object)), "holds Python objects, which are never loaded"),
    "cut off": (npy(IMAGES)[:-1], "its end is missing"),
    "promises more": (with_header(SHAPE % b"1000, 9, 9, 3"), "its end is missing"),
    "lzma": (zipped(zipfile.ZIP_LZMA), "compression method 14; save it with numpy.savez_compressed"),
    "bzip2": (zipped(zipfile.ZIP_BZIP2), "compression method 12; save it with numpy.savez_compressed"),
    "one label": (npz(images=IMAGES, labels=np.int64(3)), "labels are int64 []; give one number or name for each"),
    "records as labels": (npz(images=IMAGES, labels=np.zeros(10, [("a", "i4")])), "give one number or name for each"),
    "odd labels": (npz(images=IMAGES, labels=np.array(["cat\0dog", "\ud800"] * 5)), "not a short, readable name"),
    "labels beyond Unicode": (
        npz(images=IMAGES, labels=np.full(10, 2**31 - 1, np.uint32).view("U1")),
        "not a short, readable name",
    ),
    "labels between numbers": (
        npz(images=IMAGES, labels=np.linspace(0, 1, 10)),
        "labels are float64; give whole numbers or names",
    ),
    "labels that are no number": (
        npz(images=IMAGES, labels=np.full(10, np.nan)),
        "labels are float64; give whole numbers or names",
    ),
    "labels of training images alone": (
        npz(train=IMAGES, test=IMAGES, y_train=LABELS),
        "no labels for its test images; give them for both",
    ),
    "labels of test images alone": (
        npz(train=IMAGES, test=IMAGES, y_test=LABELS),
        "no labels for its training images; give them for both",
    ),
    "one image": (npy(IMAGES[0]), "which is one colour image; store images as"),
    "one image a split": (npz(train=IMAGES[0], test=IMAGES[0]), "which is one colour image; store images as"),
    "labels in no encoding": (npz(images=IMAGES, labels=np.array([b"\xff"] * 10)), "not a short, readable name"),
    "odd name": (npz(**{"images": IMAGES, "a\nb": IMAGES}), "give it a short, readable name"),
    "name twice": (npz(images=IMAGES, Images=IMAGES), "the array images twice"),
}
