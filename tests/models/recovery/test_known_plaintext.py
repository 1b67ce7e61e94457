"""Key recovery from pairs."""

import numpy as np
import pytest

from tests.models.sample_images import photographs
from unveil.models.core.structure import BlockMap
from unveil.models.recovery import known_plaintext
from unveil.models.schemes.base import NoSettings, seed_secret
from unveil.models.schemes.ele import Ele
from unveil.models.schemes.etc import Etc
from unveil.models.schemes.pair_solving import InconsistentPairs
from unveil.models.schemes.pixelwise import Pixelwise, PixelwiseSettings
from unveil.models.schemes.tanaka import Tanaka, TanakaSettings
from unveil.models.schemes.vit_permutation import VitPermutation, VitPermutationSettings

PIXELWISE = Pixelwise(PixelwiseSettings())
ELE, ETC = Ele(NoSettings()), Etc(NoSettings())
SECRET = seed_secret(bytes(32))


def test_pairs_leave_one_pixelwise_key_or_few_and_ciphertexts_choose_among_them():
    images = photographs(12)
    key = PIXELWISE.key(SECRET, 96, 96)
    protected = PIXELWISE.encrypt(images, key)
    one = known_plaintext.pixelwise(images[:1], protected[:1])
    four = known_plaintext.pixelwise(images[:4], protected[:4])
    assert 0.5 < one.determined < four.determined <= 1
    assert (PIXELWISE.decrypt(protected[:4], four.key) == images[:4]).all()
    helped = known_plaintext.pixelwise(images[:1], protected[:1], protected[1:])
    right = (PIXELWISE.decrypt(protected, helped.key) == images).all((0, 3)).mean()
    alone = (PIXELWISE.decrypt(protected, one.key) == images).all((0, 3)).mean()
    assert right > max(alone, 0.98)


@pytest.mark.parametrize("variant", ["paper", "icce2018"])
def test_one_pair_gives_tanakas_key(variant):
    scheme = Tanaka(TanakaSettings(variant=variant))
    images = photographs(3)
    key = scheme.key(SECRET, 96, 96)
    protected = scheme.encrypt(images, key)
    recovered = known_plaintext.nibble_permutation(images[:1], protected[:1])
    assert recovered.determined == 1.0
    assert (recovered.key.decrypt(protected) == images).all()
    again = scheme.key_from_map(recovered.key)
    assert (again.permutation == key.permutation).all()
    assert (again.reversed == key.reversed).all()


def test_constant_pairs_determine_little_and_are_still_explained():
    flat = np.full((1, 8, 8, 3), 7, np.uint8)
    scheme = Tanaka(TanakaSettings())
    protected = scheme.encrypt(flat, scheme.key(SECRET, 8, 8))
    recovered = known_plaintext.nibble_permutation(flat, protected)
    assert recovered.determined < 0.1
    assert (recovered.key.decrypt(protected) == flat).all()
    protected = PIXELWISE.encrypt(flat, PIXELWISE.key(SECRET, 8, 8))
    pixels = known_plaintext.pixelwise(flat, protected, protected)
    assert pixels.determined == 0
    assert (PIXELWISE.decrypt(protected, pixels.key) == flat).all()


@pytest.mark.parametrize(
    ("scheme", "count"),
    [(ELE, 12), (ETC, 1)],
)
@pytest.mark.parametrize(("height", "width"), [(96, 96), (40, 64)])
def test_block_shuffles_are_undone_on_every_pair_and_nearly_everywhere_else(scheme, count, height, width):
    images = photographs(count + 8, height, width)
    protected = scheme.protect(images, SECRET)
    recovered = scheme.solve_pairs(images[:count], protected[:count])
    plain = scheme.decrypt(protected, recovered.key)
    assert (plain[:count] == images[:count]).all()
    assert (plain == images).all(-1).mean() > 0.98
    assert 0.9 < recovered.determined <= 1


@pytest.mark.parametrize("scheme", [ELE, ETC])
def test_flat_pairs_of_block_shuffles_are_explained_and_determine_nothing(scheme):
    flat = np.full((2, 16, 16, 3), 200, np.uint8)
    protected = scheme.protect(flat, SECRET)
    recovered = scheme.solve_pairs(flat, protected)
    assert recovered.determined == 0
    assert (scheme.decrypt(protected, recovered.key) == flat).all()


@pytest.mark.parametrize(
    "recover", [known_plaintext.pixelwise, known_plaintext.nibble_permutation, ELE.solve_pairs, ETC.solve_pairs]
)
def test_pairs_of_something_else_are_refused(recover):
    images = photographs(2, 16, 16)
    with pytest.raises(InconsistentPairs, match="consistent with the pairs"):
        recover(images, np.roll(images, 5, axis=1) // 2)
    with pytest.raises(ValueError, match="each plain image needs its ciphertext"):
        recover(images, images[:1])
    with pytest.raises(ValueError, match="at least one pair"):
        recover(images[:0], images[:0])


def vit_pair(images, **settings):
    scheme = VitPermutation(VitPermutationSettings(**settings))
    key = scheme.key(SECRET, *images.shape[1:3])
    return scheme, key, scheme.encrypt(images, key)


@pytest.mark.parametrize("settings", [{"block": 16}, {"block": 8, "negative_positive": True}])
def test_one_pair_gives_the_order_of_blocks_and_the_map_of_their_values(settings):
    images = photographs(3)
    scheme, key, protected = vit_pair(images, **settings)
    solved = known_plaintext.value_map(images[:1], protected[:1], scheme.structure)
    assert solved.determined == 1
    assert (solved.key.decrypt(protected) == images).all()
    assert min(scheme.key_agreement(scheme.key_from_map(solved.key), key).values()) == 1


def test_blocks_of_the_same_values_in_another_order_are_told_apart():
    images = photographs(1)
    images[:, :8, :8] = images[:, :8, 8:16][:, ::-1]
    scheme, key, protected = vit_pair(images)
    solved = known_plaintext.value_map(images, protected, scheme.structure)
    assert (scheme.key_from_map(solved.key).blocks == key.blocks).all()


def test_equal_blocks_and_grey_pixels_are_undetermined_and_still_explained():
    images = np.repeat(photographs(1)[..., :1], 3, axis=3)
    images[:, :8, :32] = 9
    scheme, _, protected = vit_pair(images)
    solved = known_plaintext.value_map(images, protected, scheme.structure)
    assert solved.determined == pytest.approx(140 / (144 + 192))
    assert (solved.key.decrypt(protected) == images).all()


def test_pairs_that_no_map_of_values_explains_are_refused():
    images = photographs(2, 32, 32)
    noise = np.random.default_rng(0).integers(0, 256, images.shape, np.uint8)
    for moves in (True, False):
        with pytest.raises(InconsistentPairs):
            known_plaintext.value_map(images, noise, BlockMap(8, "value", blocks_move=moves))
    flat = np.full_like(images, 9)
    with pytest.raises(ValueError, match="too alike"):
        known_plaintext.value_map(flat, flat, BlockMap(8, "value", blocks_move=True))
