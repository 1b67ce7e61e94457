import numpy as np
import pytest

from tests.models.sample_images import photographs
from unveil.models.core import numba_kernels
from unveil.models.schemes.base import seed_secret
from unveil.models.schemes.tanaka import Tanaka, TanakaSettings, from_nibbles, nibbles

PAPER, ICCE = Tanaka(TanakaSettings()), Tanaka(TanakaSettings(variant="icce2018"))
SECRET = seed_secret(bytes(range(32)))


def _block_by_block(plain, permutation, flips, variant):
    """The scheme in plain Python, one 4x4 block at a time, nibble index 48*upper + 12*row + 3*column + channel."""
    out = np.empty_like(plain)
    for y in range(0, plain.shape[0], 4):
        for x in range(0, plain.shape[1], 4):
            values = [int(plain[y + r, x + c, ch]) for r in range(4) for c in range(4) for ch in range(3)]
            v = [p % 16 for p in values] + [p // 16 for p in values]
            v = [15 - n if flip else n for n, flip in zip(v, flips, strict=True)]
            v = [v[source] for source in permutation]
            if variant == "icce2018":
                v = [15 - n if flip else n for n, flip in zip(v, flips, strict=True)]
            for i in range(48):
                out[y + i // 12, x + i // 3 % 4, i % 3] = v[48 + i] * 16 + v[i]
    return out


@pytest.mark.parametrize("scheme", [PAPER, ICCE], ids=["paper", "icce2018"])
def test_it_equals_the_scheme_in_plain_python(scheme):
    plain = photographs(1, 12, 20)
    key = scheme.key(SECRET, 12, 20)
    expected = _block_by_block(plain[0], key.permutation, key.reversed, scheme.settings.variant)
    assert (scheme.encrypt(plain, key)[0] == expected).all()


def test_icce2018_decrypts_by_the_same_routine_with_the_inverse_permutation():
    plain = photographs(1, 8, 8)
    key = ICCE.key(SECRET, 8, 8)
    assert (key.reversed == (key.permutation > 48)).all()
    protected = ICCE.encrypt(plain, key)[0]
    assert (_block_by_block(protected, np.argsort(key.permutation), key.reversed, "icce2018") == plain[0]).all()


@pytest.mark.parametrize(("height", "width"), [(20, 36), (4, 4), (8, 400), (100, 96)])
@pytest.mark.parametrize("scheme", [PAPER, ICCE], ids=["paper", "icce2018"])
def test_the_compiled_path_equals_the_numpy_path(scheme, height, width, monkeypatch):
    plain = photographs(3, height, width)[:, :, ::-1]
    key = scheme.key(SECRET, height, width)
    compiled = scheme.encrypt(plain, key)
    monkeypatch.setattr(numba_kernels, "shuffle_nibbles", None)
    assert (scheme.encrypt(plain, key) == compiled).all()
    assert (scheme.decrypt(compiled, key) == plain).all()


def test_nibbles_are_invertible():
    plain = photographs(2, 8, 12)
    assert nibbles(plain).shape == (2, 2, 3, 96)
    assert nibbles(plain).max() <= 15
    assert (from_nibbles(nibbles(plain)) == plain).all()


def test_icce2018_material_needs_the_permutation_alone():
    key = ICCE.key(SECRET, 8, 8)
    assert (ICCE.key_from_json({"permutation": key.permutation.tolist()}).reversed == key.reversed).all()


def test_a_side_that_is_no_multiple_of_four_is_refused():
    with pytest.raises(ValueError, match="pad first"):
        PAPER.encrypt(photographs(1, 10, 12), PAPER.key(SECRET, 12, 12))
