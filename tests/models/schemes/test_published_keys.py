"""Every cipher against an independent implementation, bit for bit, under keys published with the original programs.

`scramblekit` 0.1.0 (MIT) carries these keys. Its authors withdrew it from the package index, so it is pinned exactly.
"""

import numpy as np
import pytest
from scramblekit.scramble import ELE, LE, PE, EtC
from scramblekit.scramble.keys import SCRAMBLEMIX_DATASETS, paper_le_keys, scramblemix_pe_keys
from scramblekit.scramble.schemes import ETC_CHANNEL_TABLES

from tests.models.sample_images import photographs
from unveil.models.schemes.base import NoSettings
from unveil.models.schemes.block_inverse import apply_symmetries
from unveil.models.schemes.ele import Ele, EleKey
from unveil.models.schemes.etc import Etc, EtcKey
from unveil.models.schemes.pixelwise import ORDERS, Pixelwise, PixelwiseKey, PixelwiseSettings
from unveil.models.schemes.tanaka import Tanaka, TanakaSettings

PLAIN = np.concatenate([photographs(2, 32, 32), (np.arange(3072) % 256).astype(np.uint8).reshape(1, 32, 32, 3)])


def _check_both_directions(scheme, key, oracle):
    protected = scheme.encrypt(PLAIN, key)
    assert (protected == oracle.forward_nhwc(PLAIN)).all()
    assert (protected != PLAIN).mean() > 0.8
    assert (scheme.decrypt(protected, key) == oracle.inverse_nhwc(protected)).all()


def test_tanaka_icce2018_equals_it_under_all_64_published_keys():
    scheme = Tanaka(TanakaSettings(variant="icce2018"))
    keys = paper_le_keys()
    assert len(keys) == 64
    for permutation in keys:
        key = scheme.key_from_json({"permutation": permutation.tolist()})
        _check_both_directions(scheme, key, LE(key=permutation))


def test_ele_equals_it_under_the_published_keys():
    oracle = ELE("paper")
    permutation = oracle.keys.reshape(8, 8, 96)
    after = permutation > 48  # the program inverts before and after the permutation; ours before it, once
    reversed_ = np.empty((8, 8, 96), bool)
    np.put_along_axis(reversed_, permutation, np.take_along_axis(after, permutation, 2) ^ after, 2)
    _check_both_directions(Ele(NoSettings()), EleKey(permutation.astype(np.uint8), reversed_, oracle.perm), oracle)


@pytest.mark.parametrize("dataset", SCRAMBLEMIX_DATASETS)
def test_pixelwise_equals_it_under_the_eight_published_keys(dataset):
    scheme = Pixelwise(PixelwiseSettings())
    keys = scramblemix_pe_keys(dataset)
    assert len(keys) == 8
    for inverted, colors in keys:
        key = PixelwiseKey(inverted.reshape(32, 32, 3) == 0, colors.reshape(32, 32).astype(np.uint8))
        _check_both_directions(scheme, key, PE((inverted, colors), channel_mode="permutation"))


@pytest.mark.parametrize("seed", [30, 1, 2])  # 30: of the experiments of Madono et al.
def test_etc_equals_it_under_the_keys_of_a_seed(seed):
    oracle = EtC(seed, block_size=8, channel_mode="permutation")
    turns = [_turn_code(r, f) for r, f in zip(oracle.rotate, oracle.reverse, strict=True)]
    tables = ETC_CHANNEL_TABLES["permutation"][oracle.channel]
    orders = [int((table == ORDERS).all(axis=1).argmax()) for table in tables]
    key = EtcKey(
        np.array(turns, np.uint8).reshape(4, 4),
        (oracle.negaposi == 0).reshape(4, 4),
        np.array(orders, np.uint8).reshape(4, 4),
        oracle.shuffle,
    )
    _check_both_directions(Etc(NoSettings()), key, oracle)


def _turn_code(rotate, reverse):
    """Our code of a rotation followed by a flip: the one that moves a block of distinct values likewise."""
    block = np.arange(192, dtype=np.uint8).reshape(1, 1, 8, 8, 3)
    moved = np.rot90(block, (1, 2, 3, 0)[rotate], axes=(2, 3))
    moved = (moved[:, :, ::-1], moved[:, :, :, ::-1], moved)[reverse]
    codes = [code for code in range(8) if (apply_symmetries(block, np.array([code])) == moved).all()]
    assert len(codes) == 1
    return codes[0]
