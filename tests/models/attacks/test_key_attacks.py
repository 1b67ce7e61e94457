"""key-recovery, known-plaintext and chosen-plaintext as an evaluation runs them."""

import numpy as np
import pytest

from tests.models.sample_images import photographs
from unveil.models.attacks.base import Material, Pairs
from unveil.models.catalog import attacks, make_attack, make_scheme
from unveil.models.core.errors import AttackFailed
from unveil.models.core.run_context import Context
from unveil.models.schemes.base import seed_secret

SECRET = seed_secret(bytes([5] * 32))
SCHEMES = {
    "pixelwise": ("pixelwise", {}),
    "tanaka": ("tanaka", {}),
    "icce2018": ("tanaka", {"variant": "icce2018"}),
}


def material(scheme, seen: int, to_read: int = 4, **more) -> tuple[Material, np.ndarray]:
    images = photographs(seen + to_read)
    protected = scheme.protect(images, SECRET)
    return Material(scheme, targets=protected[:to_read], observed=protected[to_read:], **more), images


@pytest.fixture(params=SCHEMES)
def scheme(request):
    name, settings = SCHEMES[request.param]
    return make_scheme(name, settings)


def is_exact(scheme, key):
    return min(scheme.agreement(key, scheme.key(SECRET, 96, 96)).values()) == 1


def test_sixteen_ciphertexts_break_a_key_with_a_curve_to_show_for_it(scheme):
    given, images = material(scheme, 16, to_read=45)
    outcome = make_attack("key-recovery", {"ciphertexts": 16}).run(given, Context())
    assert (outcome.reconstructed == images[:45]).all()
    assert is_exact(scheme, outcome.key)
    assert [x for _, x, _ in outcome.sweep] == [1, 2, 4, 8, 16]
    assert (outcome.sweep[-1][2] == outcome.reconstructed[:32]).all(), "the curve ends where the attack does"
    assert (outcome.numbers["ciphertexts"], outcome.numbers["ciphertexts_for_colours"]) == (16, 61)
    assert any("on 61 of the images to read" in note for note in outcome.notes)
    assert outcome.numbers["colour_probability"] > 0.9


def test_the_targets_themselves_count_among_the_ciphertexts(scheme):
    given, _ = material(scheme, 2)
    outcome = make_attack("key-recovery", {"ciphertexts": 64, "curve": False}).run(given, Context())
    assert outcome.numbers["ciphertexts"] == 6
    assert not outcome.sweep


def test_pairs_break_a_key(scheme):
    images = photographs(8)
    protected = scheme.protect(images, SECRET)
    given = Material(scheme, protected[:4], protected[4:], pairs=Pairs(images[4:], protected[4:]))
    outcome = make_attack("known-plaintext", {}).run(given, Context())
    assert (outcome.reconstructed == images[:4]).all(-1).mean() > 0.999
    assert outcome.numbers["pairs"] == 4
    assert 1 <= outcome.numbers["pairs_needed"] <= 4
    assert [x for _, x, _ in outcome.sweep] == [1, 2, 3, 4]


def test_an_oracle_breaks_a_key_in_one_image(scheme):
    given, images = material(scheme, 0, oracle=lambda asked: scheme.protect(asked, SECRET))
    outcome = make_attack("chosen-plaintext", {}).run(given, Context())
    assert (outcome.reconstructed == images[:4]).all()
    assert is_exact(scheme, outcome.key)
    assert outcome.numbers["queries"] == 1


@pytest.mark.parametrize("name", ["ele", "etc"])
def test_an_oracle_breaks_block_shuffles_in_five_images(name):
    shuffled = make_scheme(name, {})
    given, images = material(shuffled, 0, oracle=lambda asked: shuffled.protect(asked, SECRET))
    outcome = make_attack("chosen-plaintext", {}).run(given, Context())
    assert (outcome.reconstructed == images[:4]).all()
    assert outcome.numbers["queries"] == 5
    assert is_exact(shuffled, outcome.key)


@pytest.mark.parametrize(("name", "pairs"), [("ele", 15), ("etc", 2)])
def test_pairs_break_block_shuffles(name, pairs):
    shuffled = make_scheme(name, {})
    images = photographs(4 + pairs)
    protected = shuffled.protect(images, SECRET)
    given = Material(shuffled, protected[:4], protected[4:], pairs=Pairs(images[4:], protected[4:]))
    outcome = make_attack("known-plaintext", {"pairs": pairs}).run(given, Context())
    assert (outcome.reconstructed == images[:4]).all(-1).mean() > 0.98
    assert min(shuffled.agreement(outcome.key, shuffled.key(SECRET, 96, 96)).values()) > 0.95


@pytest.mark.parametrize("attack", ["key-recovery", "known-plaintext", "chosen-plaintext"])
def test_a_key_for_each_image_is_refused_with_the_reason(attack):
    assert "key of its own" in make_attack(attack, {}).refuses(make_scheme("pixelwise", {"key_mode": "different"}))


def test_noise_is_no_plaintext_and_no_oracle(scheme):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (6, 16, 16, 3), np.uint8)
    blind = Material(
        scheme,
        noise,
        noise,
        pairs=Pairs(photographs(6, 16, 16), noise),
        oracle=lambda asked: rng.integers(0, 256, asked.shape, np.uint8),
    )
    for name in ("known-plaintext", "chosen-plaintext"):
        with pytest.raises(AttackFailed):
            make_attack(name, {}).run(blind, Context())
    assert make_attack("key-recovery", {}).run(blind, Context()).reconstructed.shape == noise.shape


def test_missing_material_is_named():
    empty = Material(make_scheme("tanaka", {}), photographs(1), photographs(0))
    with pytest.raises(AttackFailed, match="pair"):
        make_attack("known-plaintext", {}).run(empty, Context())
    with pytest.raises(AttackFailed, match="oracle"):
        make_attack("chosen-plaintext", {}).run(empty, Context())
    unknown = Material(None, photographs(1), photographs(0))
    with pytest.raises(AttackFailed, match="pixel-wise encryption or of Tanaka"):
        attacks()["key-recovery"](attacks()["key-recovery"].Settings()).run(unknown, Context())
