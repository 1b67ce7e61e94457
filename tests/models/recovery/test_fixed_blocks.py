import numpy as np
import pytest

from unveil.models.attacks.key_recovery import recover_map
from unveil.models.catalog import make_scheme
from unveil.models.core.errors import AttackFailed
from unveil.models.data.sample import sample
from unveil.models.metrics.ssim import ssim

IMAGES = sample().test


def _recover(scheme, ciphertexts):
    return recover_map(scheme.structure, ciphertexts, ciphertexts, 0, scheme.rule_violations)[0]


@pytest.mark.parametrize(("mode", "block", "count"), [("np", 4, 1), ("np", 8, 1), ("shf", 4, 16), ("shf", 8, 16)])
def test_ciphertexts_alone_give_the_exact_key(mode, block, count):
    scheme = make_scheme("blockwise", {"mode": mode, "block": block})
    key = scheme.derive(bytes(32), 96, 96)
    found = _recover(scheme, scheme.encrypt(IMAGES[:count], key))
    assert set(scheme.key_agreement(scheme.key_from_map(found), key).values()) == {1.0}
    assert (found.decrypt(scheme.encrypt(IMAGES[-4:], key)) == IMAGES[-4:]).all()


def test_blocks_that_nothing_moved_are_read_as_they_are():
    structure = make_scheme("blockwise", {"block": 8}).structure
    found, _ = recover_map(structure, IMAGES[:16], IMAGES[:16], 0)
    assert (found.decrypt(IMAGES[-4:]) == IMAGES[-4:]).all()


def test_noise_gives_no_order():
    scheme = make_scheme("blockwise", {"block": 8})
    noise = np.random.default_rng(0).integers(0, 256, (8, 96, 96, 3), np.uint8)
    key = scheme.derive(bytes(32), 96, 96)
    found = _recover(scheme, scheme.encrypt(noise, key))
    assert scheme.key_agreement(scheme.key_from_map(found), key)["permutation"] < 0.1


@pytest.mark.parametrize("mode", ["shf", "np"])
def test_constant_ciphertexts_are_refused(mode):
    scheme = make_scheme("blockwise", {"mode": mode})
    with pytest.raises(AttackFailed, match="all of their blocks are equal"):
        _recover(scheme, np.full((2, 16, 16, 3), 7, np.uint8))


@pytest.mark.parametrize(("block", "count"), [(4, 1), (8, 1), (4, 16)])
def test_the_clear_half_of_ffx_shows_the_images(block, count):
    scheme = make_scheme("blockwise", {"mode": "ffx", "block": block})
    key = scheme.derive(bytes(32), 96, 96)
    found = _recover(scheme, scheme.encrypt_to_images(IMAGES[:count], key))
    assert (found.masked.ravel() == key.masked).all()
    assert ssim(IMAGES[-8:], found.decrypt(scheme.encrypt_to_images(IMAGES[-8:], key))).mean() > 0.9


def test_noise_is_no_substitution():
    structure = make_scheme("blockwise", {"mode": "ffx"}).structure
    noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    with pytest.raises(AttackFailed, match="no position of a block has only clear values"):
        recover_map(structure, noise, noise, 0)


def test_ciphertexts_of_ffx_alone_give_most_of_its_table_and_the_largest_entry():
    scheme = make_scheme("blockwise", {"mode": "ffx"})
    key = scheme.derive(bytes(32), 96, 96)
    found = _recover(scheme, scheme.encrypt_to_images(IMAGES[:32], key))
    assert found.white == pytest.approx(255 * 255 / key.table.max())
    agreement = scheme.key_agreement(scheme.key_from_map(found), key)
    assert agreement["masked"] == 1
    assert agreement["table"] > 0.85
    protected = scheme.encrypt_to_images(IMAGES[-8:], key)
    best = ssim(IMAGES[-8:], scheme.decrypt(protected, key)).mean()
    assert ssim(IMAGES[-8:], found.decrypt(protected)).mean() > best - 0.01
