"""`structure` on homemade ciphers: what it recognises from pairs, and that sound ciphers come out clean."""

import numpy as np
import pytest

from tests.models.attacks.homemade_ciphers import SOUND, WEAK
from tests.models.sample_images import photographs
from unveil.models.attacks.base import AttackInput, Pairs
from unveil.models.catalog import make_attack, make_scheme
from unveil.models.core.errors import AttackFailed, Cancelled
from unveil.models.core.run_context import RunContext
from unveil.models.metrics.ssim import ssim

SIDE, PAIRS, TARGETS = 48, 48, 8
IMAGES = photographs(PAIRS + TARGETS, SIDE, SIDE)


def attack_cipher(cipher, pairs=PAIRS, images=IMAGES, context=None):
    encrypt = cipher.make(np.random.default_rng(7), *images.shape[1:3])
    protected = encrypt(images)
    attack_input = AttackInput(
        None, protected[PAIRS:], protected[:pairs], pairs=Pairs(images[:pairs], protected[:pairs])
    )
    result = make_attack("structure", {"pairs": max(2, pairs)}).run(attack_input, context or RunContext(ablation=False))
    return result, protected[PAIRS:], ssim(images[PAIRS:], result.reconstruct_each(attack_input.targets)).mean()


READ = {
    "block-shuffle-xor": "8x8 blocks are shuffled",
    "fixed-keystream": "XORed with a fixed key",
    "additive-mask": "fixed key is added",
    "one-keystream-for-all-rows": "XORed with a fixed key",
    "arnold-cat-map": "move to other positions",
    "logistic-map": "move to other positions and are XORed",
    "rubiks-cube": "move to other positions",
    "row-and-column-shuffle": "move to other positions",
    "one-s-box": "one substitution for all",
    "affine-cipher": "affine map a p + b modulo 256",
    "hill-cipher": "Hill's cipher",
    "orthogonal-blocks": "4x4 block is multiplied by one fixed matrix",
    "blend-with-secret-image": "scaled and shifted",
    "bit-shuffle-and-pixel-shuffle": "move to other positions",
    "block-bit-permutation": "bits move to other positions of their 4x4 block",
    "shuffle-and-chain": "XORed with the ciphertext value before it",
    "additive-chain": "added to the ciphertext value before it, plane after plane",
    "dna-coding": "bit pairs stay in place under a separate substitution",
    "nibble-shuffle-8x8": "nibbles move to other positions of their 8x8 block",
    "dct-sign-flips": "block is multiplied by one fixed matrix",
    "spiral-scan": "move to other positions",
    "colour-matrix-per-pixel": "colours of each pixel are multiplied",
    "scrambled-line-halves": "move to other positions",
}


@pytest.mark.parametrize("name", READ)
def test_unseen_ciphertexts_are_read_and_the_structure_is_named(name):
    result, _, found = attack_cipher(WEAK[name])
    assert found > 0.9, result.notes
    assert READ[name] in result.notes[0]
    assert result.metrics["recognised"] == 1
    assert "48 pairs" not in result.notes[0], "the pairs that were held out are not counted as fitted"


@pytest.mark.parametrize("name", ["s-box-per-position", "pixel-codebook", "aes-ecb", "one-channel-only"])
def test_what_cannot_be_read_in_full_is_recognised(name):
    result, protected, found = attack_cipher(WEAK[name])
    assert result.metrics["recognised"] == 1
    assert found > ssim(IMAGES[PAIRS:], protected).mean()


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("pairs", [2, 6, 48])
def test_sound_ciphers_have_no_structure(name, pairs):
    result, protected, _ = attack_cipher(SOUND[name], pairs)
    assert result.metrics["recognised"] == 0
    assert (result.reconstructed == protected).all()
    assert "none of" in result.notes[0]


@pytest.mark.parametrize("pairs", [2, 6])
def test_few_pairs_suffice_for_shuffled_blocks_under_a_secret_byte_each(pairs):
    result, _, found = attack_cipher(WEAK["block-shuffle-xor"], pairs)
    assert found > 0.99
    assert "8x8 blocks are shuffled" in result.notes[0]


def test_the_curve_shows_how_few_pairs_suffice():
    result, _, _ = attack_cipher(WEAK["fixed-keystream"], context=RunContext())
    assert [x for _, x, _ in result.ablation] == [2, 4, 8, 16, 32, 48]
    assert all((images == result.reconstructed[: len(images)]).all() for _, _, images in result.ablation)


def test_a_point_of_the_curve_uses_no_other_pairs():
    result, _, _ = attack_cipher(WEAK["block-shuffle-xor"], 8, context=RunContext())
    for _, pairs, images in result.ablation:
        alone, _, _ = attack_cipher(WEAK["block-shuffle-xor"], int(pairs))
        assert (images == alone.reconstructed[: len(images)]).all(), pairs


def test_any_size_is_taken():
    images = photographs(PAIRS + TARGETS, 37, 53)
    result, _, found = attack_cipher(WEAK["logistic-map"], images=images)
    assert found > 0.9, result.notes


@pytest.mark.parametrize("tone", [0, 128])
def test_constant_images_are_no_evidence(tone):
    result, protected, _ = attack_cipher(WEAK["fixed-keystream"], images=np.full_like(IMAGES, tone))
    assert result.metrics["recognised"] == 0
    assert (result.reconstructed == protected).all()


def test_one_pair_is_refused_with_the_reason():
    with pytest.raises(AttackFailed, match="two pairs"):
        attack_cipher(WEAK["fixed-keystream"], pairs=1)


def test_a_cancellation_arrives_between_the_structures():
    def cancel(fraction, _):
        assert 0 <= fraction < 1
        if fraction > 0.01:
            raise Cancelled

    with pytest.raises(Cancelled):
        attack_cipher(SOUND["aes-ctr"], context=RunContext(report=cancel))


def test_schemes_that_declare_their_structure_are_left_to_the_attacks_on_it():
    assert "declares its structure" in make_attack("structure", {}).not_applicable_reason(make_scheme("tanaka", {}))
