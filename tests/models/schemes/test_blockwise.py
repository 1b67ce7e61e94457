import math

import numpy as np
import pyffx
import pytest

from tests.models.sample_images import photographs
from unveil.models.catalog import effective_bits, make_scheme
from unveil.models.core import numba_kernels
from unveil.models.core.settings_schema import ParameterError
from unveil.models.schemes.blockwise import SubstitutionKey, ffx_table
from unveil.models.schemes.pair_solving import InconsistentPairs

SEED = bytes(range(32))
MODES = ["shf", "np", "ffx"]


def _scheme(mode, block=4):
    return make_scheme("blockwise", {"mode": mode, "block": block})


def _block_by_block(plain, side, change):
    """Apply a function to the values of each block in (row, column, channel) order."""
    out = np.empty(plain.shape, np.float64)
    for y in range(0, plain.shape[0], side):
        for x in range(0, plain.shape[1], side):
            values = [int(plain[y + r, x + c, ch]) for r in range(side) for c in range(side) for ch in range(3)]
            out[y : y + side, x : x + side] = np.reshape(change(values), (side, side, 3))
    return out


@pytest.mark.parametrize("side", [2, 3, 4, 5, 8])
def test_it_equals_the_scheme_in_plain_python(side):
    plain = photographs(1, 4 * side, 12 * side)
    shuffle, inversion, substitution = (_scheme(mode, side) for mode in MODES)
    permutation = shuffle.derive(SEED, 0, 0).permutation
    moved = _block_by_block(plain[0], side, lambda values: [values[source] for source in permutation])
    assert (shuffle.encrypt(plain, shuffle.derive(SEED, 0, 0))[0] == moved).all()
    flips = inversion.derive(SEED, 0, 0).reversed
    inverted = _block_by_block(
        plain[0], side, lambda values: [255 - v if flip else v for v, flip in zip(values, flips, strict=True)]
    )
    assert (inversion.encrypt(plain, inversion.derive(SEED, 0, 0))[0] == inverted).all()
    key = substitution.derive(SEED, 0, 0)
    replaced = _block_by_block(
        plain[0], side, lambda values: [key.table[v] if m else v for v, m in zip(values, key.masked, strict=True)]
    )
    assert substitution.encrypt(plain, key)[0] == pytest.approx(replaced / key.table.max(), abs=1e-6)


@pytest.mark.parametrize("password", [b"password", SEED, b""])
def test_the_table_is_that_of_pyffx(password):
    reference = pyffx.Integer(password, length=3)
    assert ffx_table(password).tolist() == [reference.encrypt(value) for value in range(256)]


def test_fewer_than_half_of_the_values_are_inverted_so_that_np_has_few_keys():
    inversion = _scheme("np")
    assert inversion.derive(SEED, 96, 96).reversed.sum() == 23
    assert (
        effective_bits(inversion, 96, 96)
        == pytest.approx(math.log2(math.comb(48, 23)))
        == pytest.approx(44.8, abs=0.05)
    )
    assert _scheme("shf").key_space_bits(96, 96) == pytest.approx(202.95, abs=0.01)


@pytest.mark.parametrize("side", [2, 4, 6, 7, 16])
def test_the_compiled_path_equals_the_numpy_path(side, monkeypatch):
    plain = np.random.default_rng(0).integers(0, 256, (2, side * 12, side * 8, 3), np.uint8)[:, ::-1]
    for mode in ("shf", "np"):
        scheme = _scheme(mode, side)
        key = scheme.derive(SEED, 0, 0)
        compiled = scheme.encrypt(plain, key)
        with monkeypatch.context() as patch:
            patch.setattr(numba_kernels, "shuffle_block_values", None)
            assert (scheme.encrypt(plain, key) == compiled).all()
            assert (scheme.decrypt(compiled, key) == plain).all()


def test_ffx_reads_its_own_ciphertexts_almost_exactly_but_promises_no_inverse():
    scheme, plain = _scheme("ffx"), photographs(1, 96, 96)
    key = scheme.derive(SEED, 96, 96)
    assert not scheme.invertible
    read = scheme.decrypt(scheme.encrypt_to_images(plain, key), key)
    assert np.abs(read.astype(int) - plain).mean() < 3


@pytest.mark.parametrize(
    ("mode", "material", "field"),
    [
        ("shf", {"permutation": [0] * 48}, "/permutation"),
        ("np", {"reversed": [1] * 24 + [0] * 24}, "/reversed"),
        ("ffx", {"masked": [1] * 23 + [0] * 25, "table": [0] * 256}, "/table"),
        ("ffx", {"masked": [1] * 23 + [0] * 25, "table": list(range(256)), "extra": 1}, "/extra"),
    ],
)
def test_key_material_that_no_key_has_is_refused(mode, material, field):
    with pytest.raises(ParameterError) as caught:
        _scheme(mode).key_from_json(material)
    assert field in [pointer for pointer, _ in caught.value.errors]


@pytest.mark.parametrize("mode", MODES)
def test_a_pair_of_noise_solves_the_key(mode):
    scheme = _scheme(mode)
    key, noise = scheme.derive(SEED, 96, 96), np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)
    solved = scheme.solve_pairs(noise, scheme.encrypt_to_images(noise, key))
    assert solved.determined == 1
    assert set(scheme.key_agreement(solved.key, key).values()) == {1.0}


@pytest.mark.parametrize("mode", MODES)
def test_pairs_of_another_scheme_are_inconsistent(mode):
    plain = photographs(2, 96, 96)
    with pytest.raises(InconsistentPairs):
        _scheme(mode).solve_pairs(plain, np.random.default_rng(0).integers(0, 256, plain.shape, np.uint8))


def test_solved_tables_are_keys_that_can_be_stored():
    scheme, plain = _scheme("ffx"), photographs(1, 16, 24)
    key = scheme.derive(SEED, 16, 24)
    solved = scheme.solve_pairs(plain, scheme.encrypt_to_images(plain, key))
    assert 0 < solved.determined < 1
    stored = scheme.key(scheme.key_to_secret(solved.key), 16, 24)
    assert isinstance(stored, SubstitutionKey)
    difference = scheme.encrypt_to_images(plain, stored).astype(int) - scheme.encrypt_to_images(plain, key)
    assert np.abs(difference).max() <= 3  # the 8-bit view does not tell the largest entry of the table
