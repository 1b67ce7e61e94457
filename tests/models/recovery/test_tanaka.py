"""Key recovery for Tanaka's scheme from ciphertexts and public statistics."""

import tracemalloc

import numpy as np
import pytest

from tests.models.sample_images import make_mosaic, photographs
from unveil.models.recovery import tanaka
from unveil.models.schemes.base import seed_secret
from unveil.models.schemes.pixelwise import ORDERS
from unveil.models.schemes.tanaka import Tanaka, TanakaKey, TanakaSettings

VARIANTS = ["paper", "icce2018"]


def scheme_and_key(variant, seed: int = 0) -> tuple[Tanaka, TanakaKey]:
    scheme = Tanaka(TanakaSettings(variant=variant))
    return scheme, scheme.key(seed_secret(bytes([seed] * 32)), 96, 96)


def elements():
    return [(order, negative) for order in range(6) for negative in (False, True)]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("count", "height", "width"), [(5, 96, 96), (12, 64, 96), (12, 96, 48)])
def test_a_few_ciphertexts_give_the_key_up_to_colours(variant, count, height, width):
    scheme, key = scheme_and_key(variant, count)
    recovered = tanaka.recover_permutation(scheme.encrypt(photographs(count, height, width), key))
    true = tanaka.permutation_from_key(key, variant)
    transformed = [recovered.transform(order, negative=negative) for order, negative in elements()]
    assert any((s.place == true.place).all() and (s.sign == true.sign).all() for s in transformed)


def test_one_large_ciphertext_gives_the_key_in_little_memory():
    scheme, key = scheme_and_key("paper", 1)
    large = make_mosaic(1600, 2002 // 4 * 4)
    protected = scheme.encrypt(large, key)
    tracemalloc.start()
    recovered = tanaka.recover_permutation(protected)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    true = tanaka.permutation_from_key(key)
    transformed = [recovered.transform(order, negative=negative) for order, negative in elements()]
    assert any((s.place == true.place).all() and (s.sign == true.sign).all() for s in transformed)
    assert peak < 50 * large.size


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_permutation_decrypts_as_its_key_does(variant):
    scheme, key = scheme_and_key(variant)
    images = photographs(2, 16, 24)
    protected = scheme.encrypt(images, key)
    streams = tanaka.permutation_from_key(key, variant)
    assert (streams.decrypt(protected) == images).all()
    again = Tanaka(TanakaSettings(variant)).key_from_map(streams)
    assert (again.permutation == key.permutation).all()
    assert (again.reversed == key.reversed).all()
    for order, negative in elements():
        expected = images[..., ORDERS[order]] ^ np.uint8(255 * negative)
        assert (streams.transform(order, negative=negative).decrypt(protected) == expected).all()


def test_the_rule_of_icce2018_determines_channel_order_and_inversion():
    scheme, key = scheme_and_key("icce2018", 7)
    evidence = tanaka.rule_evidence(scheme.rule_violations, tanaka.permutation_from_key(key, "icce2018"))
    assert evidence.argmax() == 0
    assert evidence[0] - np.sort(evidence)[-2] > 10


@pytest.mark.parametrize("ciphertexts", [np.full((3, 8, 8, 3), 9, np.uint8), np.zeros((1, 4, 4, 3), np.uint8)])
def test_ciphertexts_that_do_not_vary_are_refused(ciphertexts):
    with pytest.raises(ValueError, match="differ from block to block"):
        tanaka.recover_permutation(ciphertexts)


@pytest.mark.parametrize(
    ("ciphertexts", "message"),
    [
        (np.zeros((0, 8, 8, 3), np.uint8), "at least one"),
        (np.zeros((2, 8, 8, 3)), "uint8"),
        (np.zeros((2, 6, 8, 3), np.uint8), "multiples of 4"),
    ],
)
def test_arrays_that_are_no_ciphertexts_are_refused(ciphertexts, message):
    with pytest.raises(ValueError, match=message):
        tanaka.recover_permutation(ciphertexts)


@pytest.mark.parametrize(("count", "height", "width"), [(2, 4, 4), (1, 4, 8), (1, 8, 4)])
def test_very_few_blocks_do_not_crash_it(count, height, width):
    noise = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)
    assert sorted(tanaka.recover_permutation(noise).place) == list(range(96))
