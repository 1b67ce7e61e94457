"""`statistics` on homemade ciphers from ciphertexts alone, and its false alarms on random values."""

import numpy as np
import pytest

from tests.models.attacks.homemade_ciphers import SOUND, WEAK
from tests.models.sample_images import photographs
from unveil.models.attacks.base import AttackInput
from unveil.models.catalog import make_attack, make_scheme
from unveil.models.core.run_context import RunContext
from unveil.models.metrics.ssim import ssim
from unveil.models.structural.randomness import run_tests

IMAGES = photographs(40, 48, 48)
LOOKS_RANDOM = {"keystream-from-the-image"}


def attack_cipher(cipher, images=IMAGES):
    protected = cipher.make(np.random.default_rng(5), *images.shape[1:3])(images)
    attack = make_attack("statistics", {})
    return attack.run(AttackInput(None, protected[:8], protected[8:]), RunContext()), protected


@pytest.mark.parametrize("name", sorted(set(WEAK) - LOOKS_RANDOM))
def test_weak_ciphers_are_distinguished_from_random_values(name):
    result, _ = attack_cipher(WEAK[name])
    assert result.metrics["findings"] >= 1, result.notes
    assert "; p " in result.notes[0]
    assert result.metrics["ciphertexts"] == 40
    assert len(result.notes) <= 8


@pytest.mark.parametrize("name", [*SOUND, *LOOKS_RANDOM])
def test_what_looks_random_has_no_finding(name):
    result, protected = attack_cipher(SOUND.get(name) or WEAK[name])
    assert result.metrics["findings"] == 0, result.notes
    assert "0 of" in result.notes[0]
    assert (result.reconstructed == protected[:8]).all()


def test_the_finding_names_what_it_is():
    for name, words in {
        "fixed-keystream": "one keystream or mask for all images",
        "aes-ecb": "the same plain block gives the same ciphertext",
        "additive-chain": "if each value is added to the ciphertext value before it, plane after plane, then bits at",
        "upper-nibbles-only": "lower nibbles",
        "fresh-block-shuffle": "values are not uniform",
    }.items():
        result, _ = attack_cipher(WEAK[name])
        tests = run_tests(attack_cipher(WEAK[name])[1])
        assert any(words in test.statement for test in tests if test.significant), (name, result.notes)


def test_a_mask_that_is_blended_in_is_undone():
    result, protected = attack_cipher(WEAK["blend-with-secret-image"])
    assert ssim(IMAGES[:8], result.reconstructed).mean() > 0.5 > ssim(IMAGES[:8], protected[:8]).mean() + 0.3
    assert result.notes[-1].startswith("each position was brought to the mean and spread of natural images")


def test_a_mask_that_too_few_ciphertexts_show_is_named_and_left():
    result, protected = attack_cipher(WEAK["blend-with-secret-image"], IMAGES[:7])
    assert (result.reconstructed == protected).all()
    assert result.notes[-1] == "a shared mask was found but not undone, which takes at least 8 ciphertexts"


def test_random_values_are_rarely_suspected():
    rng = np.random.default_rng(11)
    shapes = [(2, 13, 30, 3)] * 150 + [(1, 16, 16, 3)] * 50 + [(30, 16, 16, 3)] * 100
    alarms = sum(run_tests(rng.integers(0, 256, shape, np.uint8))[0].significant for shape in shapes)
    assert alarms <= 9  # 3 expected at most; 9 or fewer with probability 0.999


def test_two_small_images_of_random_values_are_rarely_suspected():
    rng = np.random.default_rng(0)
    alarms = sum(run_tests(rng.integers(0, 256, (2, 8, 8, 3), np.uint8))[0].significant for _ in range(200))
    assert alarms <= 4  # 2 expected: few positions, so that only exact tails hold


def test_constant_images_are_distinguished_from_random_values():
    result, _ = attack_cipher(WEAK["fixed-keystream"], np.full_like(IMAGES, 128))
    assert result.metrics["findings"] >= 1


def test_every_image_may_have_a_key_of_its_own_but_the_structure_must_be_unknown():
    assert "declares its structure" in make_attack("statistics", {}).not_applicable_reason(make_scheme("tanaka", {}))
