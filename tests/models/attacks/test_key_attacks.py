"""key-recovery, known-plaintext and chosen-plaintext as an evaluation runs them."""

from dataclasses import replace

import numpy as np
import pytest

from tests.models.sample_images import photographs
from unveil.models.attacks import key_recovery
from unveil.models.attacks.base import AttackInput, Pairs
from unveil.models.catalog import attacks, make_attack, make_scheme
from unveil.models.core.errors import AttackFailed, Cancelled
from unveil.models.core.run_context import RunContext
from unveil.models.core.structure import PositionPermutation
from unveil.models.data.sample import sample
from unveil.models.evaluation.assembly import compare_assembly
from unveil.models.metrics.ssim import ssim
from unveil.models.schemes.base import Scheme, seed_secret
from unveil.models.schemes.block_inverse import SYMMETRIES, apply_symmetry

SECRET = seed_secret(bytes([5] * 32))
SCHEMES = {
    "pixelwise": ("pixelwise", {}),
    "tanaka": ("tanaka", {}),
    "icce2018": ("tanaka", {"variant": "icce2018"}),
}


def make_attack_input(scheme, observed_count: int, to_read: int = 4, **extra) -> tuple[AttackInput, np.ndarray]:
    images = photographs(observed_count + to_read)
    protected = scheme.protect(images, SECRET)
    return AttackInput(scheme, targets=protected[:to_read], observed=protected[to_read:], **extra), images


@pytest.fixture(params=SCHEMES)
def scheme(request):
    name, settings = SCHEMES[request.param]
    return make_scheme(name, settings)


def is_exact(scheme, key):
    return min(scheme.key_agreement(key, scheme.key(SECRET, 96, 96)).values()) == 1


def test_sixteen_ciphertexts_give_the_exact_key_and_a_curve(scheme):
    attack_input, images = make_attack_input(scheme, 16, to_read=45)
    attack_result = make_attack("key-recovery", {"ciphertexts": 16}).run(attack_input, RunContext())
    assert (attack_result.reconstructed == images[:45]).all()
    assert is_exact(scheme, attack_result.key)
    assert [x for _, x, _ in attack_result.ablation] == [1, 2, 4, 8, 16]
    assert (attack_result.ablation[-1][2] == attack_result.reconstructed[:32]).all(), (
        "the curve ends where the attack does"
    )
    assert (attack_result.metrics["ciphertexts"], attack_result.metrics["ciphertexts_for_colours"]) == (16, 61)
    assert any("on 61 of the ciphertexts" in note for note in attack_result.notes)
    assert attack_result.metrics["colour_probability"] > 0.9


def test_the_targets_themselves_count_among_the_ciphertexts(scheme):
    attack_input, _ = make_attack_input(scheme, 2)
    attack_result = make_attack("key-recovery", {"ciphertexts": 64, "curve": False}).run(attack_input, RunContext())
    assert attack_result.metrics["ciphertexts"] == 6
    assert not attack_result.ablation


@pytest.mark.parametrize("attack", ["key-recovery", "known-plaintext"])
def test_a_cancellation_arrives_inside_the_recovery(scheme, attack):
    images = photographs(6)
    grey = np.repeat(images[..., :1], 3, axis=-1)  # several keys fit the pairs: the pixels around choose
    protected = scheme.protect(grey, SECRET)
    attack_input = AttackInput(scheme, protected[:4], protected[4:], pairs=Pairs(grey[:2], protected[:2]))
    context, phases, settings = RunContext(), [], {"ciphertexts": 4} if attack == "key-recovery" else {}
    make_attack(attack, settings).run(attack_input, replace(context, report=lambda _, phase: phases.append(phase)))
    if attack == "known-plaintext" and scheme.name == "tanaka":
        return  # a linear assignment of 96 nibbles takes milliseconds
    assert len(phases) > 3 * len(set(phases)), "the steps of a recovery report"

    def cancel(_: float, __: str) -> None:
        phases.append("")
        if len(phases) > 3:
            raise Cancelled

    phases.clear()
    with pytest.raises(Cancelled):
        make_attack(attack, settings).run(attack_input, replace(context, report=cancel))


def test_pairs_break_a_key(scheme):
    images = photographs(8)
    protected = scheme.protect(images, SECRET)
    attack_input = AttackInput(scheme, protected[:4], protected[4:], pairs=Pairs(images[4:], protected[4:]))
    attack_result = make_attack("known-plaintext", {}).run(attack_input, RunContext())
    assert (attack_result.reconstructed == images[:4]).all(-1).mean() > 0.999
    assert attack_result.metrics["pairs"] == 4
    assert 1 <= attack_result.metrics["pairs_needed"] <= 4
    assert [x for _, x, _ in attack_result.ablation] == [1, 2, 3, 4]


def test_an_oracle_breaks_a_key_in_one_image(scheme):
    attack_input, images = make_attack_input(scheme, 0, oracle=lambda asked: scheme.protect(asked, SECRET))
    attack_result = make_attack("chosen-plaintext", {}).run(attack_input, RunContext())
    assert (attack_result.reconstructed == images[:4]).all()
    assert is_exact(scheme, attack_result.key)
    assert attack_result.metrics["queries"] == 1


@pytest.mark.parametrize("name", ["ele", "etc"])
def test_an_oracle_breaks_block_shuffles_in_five_images(name):
    shuffled = make_scheme(name, {})
    attack_input, images = make_attack_input(shuffled, 0, oracle=lambda asked: shuffled.protect(asked, SECRET))
    attack_result = make_attack("chosen-plaintext", {}).run(attack_input, RunContext())
    assert (attack_result.reconstructed == images[:4]).all()
    assert attack_result.metrics["queries"] == 5
    assert is_exact(shuffled, attack_result.key)


@pytest.mark.parametrize(("name", "pairs"), [("ele", 15), ("etc", 2)])
def test_pairs_break_block_shuffles(name, pairs):
    shuffled = make_scheme(name, {})
    images = photographs(4 + pairs)
    protected = shuffled.protect(images, SECRET)
    attack_input = AttackInput(shuffled, protected[:4], protected[4:], pairs=Pairs(images[4:], protected[4:]))
    attack_result = make_attack("known-plaintext", {"pairs": pairs}).run(attack_input, RunContext())
    assert (attack_result.reconstructed == images[:4]).all(-1).mean() > 0.98
    assert min(shuffled.key_agreement(attack_result.key, shuffled.key(SECRET, 96, 96)).values()) > 0.95


@pytest.mark.parametrize(("min_probability", "ambiguity"), [(0.95, "rotation"), (0.0, "mirror")])
def test_moved_blocks_of_permuted_values_are_recovered_up_to_a_rotation_or_the_mirror(
    min_probability: float, ambiguity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_recovery, "_MIN_PROBABILITY", min_probability)
    moved = make_scheme("vit-permutation", {})
    attack_input, images = make_attack_input(moved, 16, to_read=16)
    attack_result = make_attack("key-recovery", {"ciphertexts": 16, "curve": False}).run(attack_input, RunContext())
    assert attack_result.ambiguity == ambiguity
    found = attack_result.reconstructed
    upright = [apply_symmetry(found, symmetry) for symmetry in range(SYMMETRIES)]
    assert any((each == images[:16]).all() for each in upright), "crops of textures do not show which side is up"
    assert (moved.decrypt(attack_input.targets, attack_result.key) == found).all()


@pytest.mark.parametrize("attack", ["key-recovery", "known-plaintext", "chosen-plaintext"])
def test_a_key_for_each_image_is_refused_with_the_reason(attack):
    assert "key of its own" in make_attack(attack, {}).not_applicable_reason(
        make_scheme("pixelwise", {"key_mode": "different"})
    )


def test_noise_is_no_plaintext_and_no_oracle(scheme):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (6, 16, 16, 3), np.uint8)
    blind = AttackInput(
        scheme,
        noise,
        noise,
        pairs=Pairs(photographs(6, 16, 16), noise),
        oracle=lambda asked: rng.integers(0, 256, asked.shape, np.uint8),
    )
    for name in ("known-plaintext", "chosen-plaintext"):
        with pytest.raises(AttackFailed):
            make_attack(name, {}).run(blind, RunContext())
    assert make_attack("key-recovery", {}).run(blind, RunContext()).reconstructed.shape == noise.shape


def test_missing_material_is_named():
    empty = AttackInput(make_scheme("tanaka", {}), photographs(1), photographs(0))
    with pytest.raises(AttackFailed, match="pair"):
        make_attack("known-plaintext", {}).run(empty, RunContext())
    with pytest.raises(AttackFailed, match="oracle"):
        make_attack("chosen-plaintext", {}).run(empty, RunContext())
    unknown = AttackInput(None, photographs(1), photographs(0))
    with pytest.raises(AttackFailed, match="needs a scheme that inverts and permutes"):
        attacks()["key-recovery"](attacks()["key-recovery"].Settings()).run(unknown, RunContext())


@pytest.mark.parametrize(
    ("name", "settings", "least"),
    [
        ("vit-permutation", {"block": 8}, 1.0),
        ("vit-permutation", {"block": 16}, 1.0),
        ("block-orthogonal", {}, 0.98),
    ],
)
@pytest.mark.parametrize("attack", ["known-plaintext", "chosen-plaintext"])
def test_permutations_and_linear_maps_fall_to_one_pair_or_an_oracle(name, settings, least, attack):
    shuffled = make_scheme(name, settings)
    images = photographs(5)
    protected = shuffled.protect(images, SECRET)
    attack_input = AttackInput(
        shuffled,
        protected[:4],
        protected[4:],
        pairs=Pairs(images[4:], protected[4:]),
        oracle=lambda asked: shuffled.protect(asked, SECRET),
    )
    found = make_attack(attack, {"pairs": 1} if attack == "known-plaintext" else {}).run(attack_input, RunContext())
    assert ssim(images[:4], found.reconstructed).mean() >= least


class Shuffle(Scheme):
    """Permutes all values of an image and inverts them."""

    name = "acme/shuffle"
    structure = PositionPermutation("value")

    def derive(self, seed, height, width):
        return np.random.default_rng(list(seed)).permutation(height * width * 3)

    def encrypt(self, images, key):
        return 255 - images.reshape(len(images), -1)[:, key].reshape(images.shape)


def test_a_foreign_permutation_of_all_values_falls_to_few_pairs():
    scheme, images = Shuffle(Shuffle.Settings()), photographs(12)
    protected = scheme.protect(images, SECRET)
    attack_input = AttackInput(scheme, protected[:4], protected[4:], pairs=Pairs(images[4:], protected[4:]))
    found = make_attack("known-plaintext", {"pairs": 8}).run(attack_input, RunContext())
    assert ssim(images[:4], found.reconstructed).mean() > 0.99


def test_one_pair_does_not_determine_a_map_of_the_whole_image():
    scheme, images = Shuffle(Shuffle.Settings()), photographs(2, 16, 16)
    protected = scheme.protect(images, SECRET)
    attack_input = AttackInput(scheme, protected[:1], protected[1:], pairs=Pairs(images[1:], protected[1:]))
    with pytest.raises(AttackFailed, match="one pair does not determine"):
        make_attack("known-plaintext", {"pairs": 1}).run(attack_input, RunContext())


def test_a_linear_map_is_read_up_to_rounding_and_points_with_too_few_pairs_are_noted():
    scheme, images = make_scheme("block-orthogonal", {"block": 8}), photographs(6)
    protected = scheme.protect(images, SECRET)
    attack_input = AttackInput(scheme, protected[:2], protected[2:], pairs=Pairs(images[2:], protected[2:]))
    found = make_attack("known-plaintext", {}).run(attack_input, RunContext())
    assert "of the values of 4 pairs exactly, the rest up to rounding" in found.notes[0]
    assert "suffice" not in found.notes[0]
    assert "pairs_needed" not in found.metrics
    assert 0 < found.metrics["exact"] < 1
    assert [x for _, x, _ in found.ablation] == [2, 3, 4]
    assert found.notes[1].startswith("nothing recovered from 1 pair: too few pairs")


@pytest.mark.parametrize("draw", range(6))
def test_four_ciphertexts_never_give_the_negative_where_nothing_is_inverted(draw):
    scheme, secret = make_scheme("vit-permutation", {}), seed_secret(bytes([draw] * 32))
    protected = scheme.protect(photographs(5, 64, 64), secret)
    attack_input = AttackInput(scheme, protected[:1], protected[1:])
    found = make_attack("key-recovery", {"ciphertexts": 4, "curve": False}).run(attack_input, RunContext())
    assert not found.key.reversed.any()


@pytest.mark.parametrize(("pairs", "least"), [(1, 0.95), (4, 0.98)])
@pytest.mark.parametrize("block", [4, 8])
def test_pairs_give_the_entries_of_a_table_that_occur_and_the_others_are_predicted(block, pairs, least):
    scheme, images = make_scheme("blockwise", {"mode": "ffx", "block": block}), sample().test[:8]
    protected = scheme.protect(images, SECRET)
    attack_input = AttackInput(scheme, protected[:4], protected[4:], pairs=Pairs(images[4:], protected[4:]))
    found = make_attack("known-plaintext", {"pairs": pairs}).run(attack_input, RunContext(ablation=False))
    assert ssim(images[:4], found.reconstructed).mean() > least
    agreement = scheme.key_agreement(found.key, scheme.key(SECRET, 96, 96))
    assert agreement["masked"] == 1
    assert agreement["table"] >= found.metrics["determined"] > 0.6
    assert f"of the table follows from {pairs} pair" in found.notes[0]


@pytest.mark.parametrize(("side", "queries"), [(16, 16), (96, 1)])
def test_an_oracle_gives_a_whole_table(side, queries):
    scheme, images = make_scheme("blockwise", {"mode": "ffx"}), photographs(2, side, side)
    protected = scheme.protect(images, SECRET)
    attack_input = AttackInput(scheme, protected, protected[:0], oracle=lambda asked: scheme.protect(asked, SECRET))
    found = make_attack("chosen-plaintext", {}).run(attack_input, RunContext())
    assert found.metrics["queries"] == queries
    assert is_exact(scheme, found.key)
    assert (found.reconstructed == scheme.decrypt(protected, scheme.key(SECRET, side, side))).all()


@pytest.mark.parametrize(
    ("name", "settings", "ambiguity"),
    [("etc", {}, "rotation"), ("vit-permutation", {"block": 16, "fixed_values": 1.0, "key_mode": "different"}, None)],
)
def test_the_blocks_of_each_ciphertext_are_put_together_alone(name, settings, ambiguity):
    scheme, images = make_scheme(name, settings), photographs(3, 64, 64)
    targets = scheme.protect(images, SECRET)
    found = make_attack("jigsaw", {}).run(AttackInput(scheme, targets, targets[:0]), RunContext())
    alone = make_attack("jigsaw", {}).run(AttackInput(scheme, targets[2:], targets[:0]), RunContext())
    assert (found.reconstructed[2] == alone.reconstructed[0]).all()
    assert (found.ambiguity, found.ambiguity_per_image) == (ambiguity, ambiguity is not None)
    side = found.assembled_side
    before, after = (compare_assembly(images, each, side).neighbour.mean() for each in (targets, found.reconstructed))
    assert after > before + 0.1


def test_blocks_whose_values_move_are_no_puzzle():
    assert "stay in place" in make_attack("jigsaw", {}).not_applicable_reason(make_scheme("vit-permutation", {}))
