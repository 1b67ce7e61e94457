"""ViT block and pixel permutation: order of operations, restricted permutations, key spaces, kernels, explicit keys."""

import itertools
import math

import numpy as np
import pytest

from tests.models.sample_images import photographs
from unveil.models.catalog import ParameterError, effective_bits, make_scheme
from unveil.models.core import numba_kernels
from unveil.models.schemes.base import seed_secret
from unveil.models.schemes.vit_permutation import VitPermutationKey

SECRET = seed_secret(bytes(range(32)))


def reference(images, key, side):
    """The definition, value by value: channel-first blocks, inverted, permuted, and put in another place."""
    out = np.empty_like(images)
    rows, columns = key.blocks.shape
    for r, c in itertools.product(range(rows), range(columns)):
        y, x = divmod(int(key.blocks[r, c]), columns)
        block = images[:, y * side : (y + 1) * side, x * side : (x + 1) * side]
        values = block.transpose(0, 3, 1, 2).reshape(len(images), -1) ^ key.reversed * np.uint8(255)
        moved = values[:, key.values].reshape(-1, 3, side, side).transpose(0, 2, 3, 1)
        out[:, r * side : (r + 1) * side, c * side : (c + 1) * side] = moved
    return out


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("side", [4, 6, 8, 16, 32])
def test_ciphertexts_follow_the_definition(side, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(numba_kernels, "shuffle_block_values", None)
    scheme = make_scheme("vit-permutation", {"block": side, "negative_positive": True})
    plain = np.random.default_rng(0).integers(0, 256, (2, 3 * side, 6 * side, 3), np.uint8)
    key = scheme.key(SECRET, 3 * side, 6 * side)
    protected = scheme.encrypt(plain, key)
    np.testing.assert_array_equal(protected, reference(plain, key, side))
    np.testing.assert_array_equal(scheme.decrypt(protected, key), plain)


def test_restricted_keys_leave_the_chosen_share_in_place():
    scheme = make_scheme("vit-permutation", {"block": 8, "fixed_blocks": 0.75, "fixed_values": 0.5})
    keys = [scheme.key(seed_secret(bytes([i] * 32)), 96, 96) for i in range(20)]
    blocks = np.mean([(key.blocks.ravel() == np.arange(144)).mean() for key in keys])
    values = np.mean([(key.values == np.arange(192)).mean() for key in keys])
    # The positions that are not fixed are permuted freely: one more stays in place on average.
    assert 0.75 <= blocks < 0.77
    assert 0.5 <= values < 0.52
    stays = np.mean([key.values == np.arange(192) for key in keys], axis=0)
    assert 0 < stays.min() <= stays.max() < 1, "the fixed positions belong to the key"


def test_a_share_of_one_switches_a_permutation_off():
    blocks_only = make_scheme("vit-permutation", {"fixed_values": 1.0})
    values_only = make_scheme("vit-permutation", {"fixed_blocks": 1.0})
    assert (blocks_only.key(SECRET, 96, 96).values == np.arange(192)).all()
    assert (values_only.key(SECRET, 96, 96).blocks.ravel() == np.arange(144)).all()
    assert blocks_only.structure.blocks_move
    assert not values_only.structure.blocks_move
    with pytest.raises(ParameterError, match="nothing is encrypted"):
        make_scheme("vit-permutation", {"fixed_blocks": 1.0, "fixed_values": 1.0})


def count_permutations(size, fixed):
    return sum(sum(a == b for a, b in enumerate(p)) >= fixed for p in itertools.permutations(range(size)))


def test_key_spaces_are_exact():
    plain = make_scheme("vit-permutation", {"block": 16})
    assert plain.key_space_bits(224, 224) == pytest.approx(math.log2(math.factorial(768) * math.factorial(196)))
    inverted = make_scheme("vit-permutation", {"block": 16, "negative_positive": True})
    assert inverted.key_space_bits(224, 224) - plain.key_space_bits(224, 224) == pytest.approx(768)
    for share in (0.0, 0.25, 0.5, 0.9, 1.0):  # of 8 blocks
        restricted = make_scheme("vit-permutation", {"block": 4, "fixed_blocks": share, "fixed_values": 0.5})
        without_blocks = restricted.key_space_bits(4, 4)
        bits = restricted.key_space_bits(8, 16) - without_blocks
        assert bits == pytest.approx(math.log2(count_permutations(8, round(8 * share))), abs=1e-9)
    blocks_only = make_scheme("vit-permutation", {"block": 32, "fixed_values": 1.0})
    assert effective_bits(blocks_only, 96, 96) == pytest.approx(math.log2(math.factorial(9)))  # far below a seed


def test_images_of_one_key_share_it_and_others_do_not():
    plain = np.repeat(photographs(1), 2, axis=0)
    same = make_scheme("vit-permutation", {}).protect(plain, SECRET)
    different = make_scheme("vit-permutation", {"key_mode": "different"}).protect(plain, SECRET)
    assert (same[0] == same[1]).all()
    assert (different[0] != different[1]).mean() > 0.5


def test_a_key_serves_one_image_size():
    scheme = make_scheme("vit-permutation", {})
    key = scheme.key(SECRET, 96, 96)
    with pytest.raises(ValueError, match="fits images of 96x96; got 48x96"):
        scheme.encrypt(photographs(1)[:, :, :48], key)


def test_explicit_keys_are_validated():
    scheme = make_scheme("vit-permutation", {"block": 4, "negative_positive": True})
    material = scheme.key_to_json(scheme.key(SECRET, 8, 12))
    again = scheme.key_from_json(material)
    assert isinstance(again, VitPermutationKey)
    assert (again.reversed == scheme.key(SECRET, 8, 12).reversed).all()
    bad = {"blocks": [0] * 6, "values": list(range(1, 49)), "reversed": "AA==", "width": 10}
    for field, value in bad.items():
        with pytest.raises(ParameterError) as caught:
            scheme.key_from_json({**material, field: value})
        assert caught.value.errors[0][0] == f"/{field}"
    with pytest.raises(ParameterError, match="unknown field"):
        make_scheme("vit-permutation", {"block": 4}).key_from_json(material)
