"""Key recovery with an encryption oracle."""

import numpy as np
import pytest

from tests.models.sample_images import photographs
from unveil.models.catalog import make_scheme
from unveil.models.recovery import chosen_plaintext
from unveil.models.recovery.tanaka import permutation_from_key
from unveil.models.schemes.base import NoSettings, seed_secret
from unveil.models.schemes.ele import Ele
from unveil.models.schemes.etc import Etc
from unveil.models.schemes.pair_solving import InconsistentPairs
from unveil.models.schemes.pixelwise import Pixelwise, PixelwiseSettings
from unveil.models.schemes.tanaka import Tanaka, TanakaSettings

SECRET = seed_secret(bytes(32))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 9), (24, 32)])
def test_one_image_gives_the_pixelwise_key(height, width):
    scheme = Pixelwise(PixelwiseSettings())
    key = scheme.key(SECRET, height, width)
    recovered = chosen_plaintext.pixelwise(lambda images: scheme.encrypt(images, key), height, width)
    assert recovered.queries == 1
    assert (recovered.key.reversed == key.reversed).all()
    assert (recovered.key.orders == key.orders).all()


@pytest.mark.parametrize("variant", ["paper", "icce2018"])
@pytest.mark.parametrize(("height", "width", "queries"), [(4, 4, 3), (4, 8, 2), (96, 96, 1)])
def test_three_blocks_give_tanakas_key(variant, height, width, queries):
    scheme = Tanaka(TanakaSettings(variant=variant))
    key = scheme.key(SECRET, height, width)
    recovered = chosen_plaintext.nibble_permutation(lambda images: scheme.encrypt(images, key), height, width)
    assert recovered.queries == queries
    assert (recovered.key.place == permutation_from_key(key, variant).place).all()
    assert (recovered.key.sign == permutation_from_key(key, variant).sign).all()


@pytest.mark.parametrize(
    "scheme", [Ele(NoSettings()), Etc(NoSettings()), Tanaka(TanakaSettings()), Pixelwise(PixelwiseSettings())]
)
def test_five_images_undo_any_scheme_that_moves_nibbles(scheme):
    images = photographs(3, 32, 48)
    recovered = chosen_plaintext.nibble_map(lambda asked: scheme.protect(asked, SECRET), 32, 48)
    assert recovered.queries <= 5
    assert (recovered.key.decrypt(scheme.protect(images, SECRET)) == images).all()


@pytest.mark.parametrize("name", ["ele", "etc"])
def test_the_same_images_give_the_keys_of_block_shuffles(name):
    scheme = make_scheme(name, {})
    chosen = chosen_plaintext.make_numbering_images(32, 48)
    recovered = scheme.solve_pairs(chosen, scheme.protect(chosen, SECRET))
    assert min(scheme.key_agreement(recovered.key, scheme.key(SECRET, 32, 48)).values()) == 1


@pytest.mark.parametrize(
    "recover", [chosen_plaintext.pixelwise, chosen_plaintext.nibble_permutation, chosen_plaintext.nibble_map]
)
@pytest.mark.parametrize("oracle", [lambda images: images // 2, lambda images: images[:, :-1]], ids=["lossy", "crops"])
def test_an_oracle_of_something_else_is_refused(recover, oracle):
    with pytest.raises(InconsistentPairs, match="the oracle"):
        recover(oracle, 8, 8)


def test_noise_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(InconsistentPairs):
        chosen_plaintext.nibble_map(lambda images: rng.integers(0, 256, images.shape, np.uint8), 8, 8)
