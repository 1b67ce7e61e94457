import hashlib

import numpy as np
import pytest

from unveil.models.core import keystream, numba_kernels

SECRET = bytes(range(32))


def test_the_stream_is_the_documented_construction():
    label = b"pixelwise/96x96"
    expected = hashlib.shake_256(b"unveil/keystream/1\x00" + len(label).to_bytes(2, "big") + label + SECRET).digest(16)
    assert keystream.keystream_bytes(SECRET, label.decode(), 16) == expected


def test_published_vectors_hold():
    assert keystream.keystream_bytes(SECRET, "pixelwise/96x96", 16).hex() == "5b1444844f4b05dd337e2d53da2d55b4"
    assert keystream.uniform_integers(SECRET, "pixelwise/4x4", 48, 16).tolist() == [
        11, 22, 3, 11, 19, 28, 32, 45, 26, 33, 29, 33, 26, 1, 37, 15,
    ]  # fmt: skip
    assert keystream.bits(SECRET, "tanaka/reversed", 16).astype(int).tolist() == [
        1, 1, 1, 0, 1, 0, 1, 0, 1, 0, 0, 0, 1, 1, 1, 1,
    ]  # fmt: skip
    assert keystream.permutation(SECRET, "tanaka/permutation", 12).tolist() == [10, 0, 11, 8, 9, 3, 5, 2, 6, 7, 1, 4]
    assert keystream.derive_key(SECRET, "image/0").hex() == (
        "1906d4b4b927c6dfda665981e3baf5aa7091760ab29ad66a5e01bfe1619a7b4d"
    )


def test_draws_are_uniform_and_a_longer_draw_begins_with_the_shorter():
    drawn = keystream.uniform_integers(SECRET, "uniform", 48, 480_000)
    counts = np.bincount(drawn, minlength=48)
    assert drawn.max() == 47
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 100  # chi-square with 47 degrees: 1 in 10,000 above 89
    assert (keystream.uniform_integers(SECRET, "uniform", 48, 100) == drawn[:100]).all()


@pytest.mark.parametrize("below", [1, 2, 48, 129, 255, 256])
def test_compiled_draws_equal_those_of_numpy(below, monkeypatch):
    compiled = [keystream.uniform_integers(SECRET, "uniform", below, count) for count in (0, 1, 1000)]
    monkeypatch.setattr(numba_kernels, "rejection_sample", None)
    for drawn in compiled:
        assert (keystream.uniform_integers(SECRET, "uniform", below, len(drawn)) == drawn).all()


def test_draws_can_be_mapped_to_symbols():
    drawn = keystream.uniform_integers(SECRET, "uniform", 48, 100)
    assert (keystream.uniform_integers(SECRET, "uniform", 48, 100, bytes(range(100, 148))) == drawn + 100).all()


def test_permutations_are_uniform():
    first = [keystream.permutation(SECRET, f"p/{i}", 6)[0] for i in range(3000)]
    assert ((np.bincount(first, minlength=6) - 500) ** 2 / 500).sum() < 26


def test_labels_and_secrets_separate_streams():
    assert keystream.keystream_bytes(SECRET, "a", 32) != keystream.keystream_bytes(SECRET, "b", 32)
    assert keystream.keystream_bytes(SECRET, "a", 32) != keystream.keystream_bytes(bytes(32), "a", 32)
    assert keystream.new_secret() != keystream.new_secret()


def test_a_secret_of_another_length_is_refused():
    with pytest.raises(ValueError, match="32 bytes"):
        keystream.keystream_bytes(b"short", "a", 1)
