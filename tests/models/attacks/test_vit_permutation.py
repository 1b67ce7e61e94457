"""Every combination of the settings of `vit-permutation` under every attack that trains nothing, on small images."""

import itertools

import numpy as np
import pytest

from tests.models.sample_images import photographs
from unveil.models.attacks.base import AttackInput, Pairs
from unveil.models.catalog import attacks, make_attack, make_scheme
from unveil.models.core.run_context import RunContext
from unveil.models.schemes.base import seed_secret

SECRET = seed_secret(bytes([5] * 32))
SIDE, TARGETS, PAIRS = 24, 2, 4
IMAGES = photographs(TARGETS + PAIRS, SIDE, SIDE)
COMBINATIONS = [
    {"block": block, "fixed_blocks": blocks, "fixed_values": values, "negative_positive": inverts, "key_mode": mode}
    for block, blocks, values, inverts, mode in itertools.product(
        (4, 6), (0.0, 0.5, 1.0), (0.0, 0.5, 1.0), (False, True), ("same", "different")
    )
    if inverts or not blocks == values == 1
]
WITHOUT_TRAINING = [
    attack
    for name, cls in attacks().items()
    if not cls.reads_upload
    for attack in [make_attack(name, {"ciphertexts": 6} if name in ("key-recovery", "second-order") else {}, "smoke")]
    if not attack.trains_network()
]
EXACT = {"known-plaintext", "chosen-plaintext"}


def make_attack_input(scheme):
    protected = scheme.protect(IMAGES, SECRET)
    return AttackInput(
        scheme,
        targets=protected[:TARGETS],
        observed=protected[TARGETS:],
        public=IMAGES[TARGETS:],
        pairs=Pairs(IMAGES[TARGETS:], protected[TARGETS:]),
        oracle=lambda asked: scheme.protect(asked, SECRET),
    )


@pytest.mark.parametrize("settings", COMBINATIONS, ids=lambda each: ",".join(str(value) for value in each.values()))
def test_no_attack_crashes_and_pairs_or_an_oracle_read_everything(settings):
    scheme = make_scheme("vit-permutation", settings)
    attack_input = make_attack_input(scheme)
    for attack in WITHOUT_TRAINING:
        reason = attack.not_applicable_reason(scheme)
        if attack.name in EXACT:
            assert (reason is None) == (settings["key_mode"] == "same")
        if reason is not None or (attack.name == "second-order" and settings["block"] > 4):
            continue  # second-order attacks larger blocks in the same way, but takes seconds
        result = attack.run(attack_input, RunContext(ablation=attack.name == "known-plaintext"))
        if result.reconstructed is None:
            continue
        assert result.reconstructed.shape == attack_input.targets.shape
        if attack.name in EXACT:
            assert (result.reconstructed == IMAGES[:TARGETS]).all(), (attack.name, result.notes)
            agreement = scheme.key_agreement(result.key, scheme.key(SECRET, SIDE, SIDE))
            assert min(agreement.values()) == 1, (attack.name, agreement)
        if attack.name == "known-plaintext":
            assert result.metrics["exact"] == 1
            assert result.metrics["pairs_needed"] < PAIRS
            assert len(result.ablation) == PAIRS
        if attack.name == "key-recovery":
            moves = settings["fixed_values"] < 1
            claims = {"inversion": settings["negative_positive"], "channel order": moves}
            assert all((claim in " ".join(result.notes)) == expected for claim, expected in claims.items())
            if settings["fixed_blocks"] == 1 or not moves:
                assert result.ambiguity is None, "values or blocks that stay in place show the orientation"
            if not settings["negative_positive"]:
                assert not result.key.reversed.any()
            if not moves:
                assert (result.key.values == np.arange(len(result.key.values))).all()
