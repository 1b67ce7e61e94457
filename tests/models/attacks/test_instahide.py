"""The attack on InstaHide: private images from their encodings alone."""

import numpy as np
import pytest

from tests.models.sample_images import photographs
from unveil.models.attacks.base import AttackInput
from unveil.models.catalog import make_attack, make_scheme
from unveil.models.core.errors import AttackFailed
from unveil.models.core.run_context import RunContext
from unveil.models.data.sample import sample
from unveil.models.evaluation.cell import run_cell
from unveil.models.evaluation.scoring import ScoringOptions
from unveil.models.metrics.ssim import ssim
from unveil.models.schemes.base import seed_secret

SECRET = seed_secret(bytes(range(32)))
ATTACK = make_attack("instahide", {})


def small_photographs(count):
    return photographs(count).reshape(count, 32, 3, 32, 3, 3).mean((2, 4)).round().astype(np.uint8)


def attack(scheme, plain, **context):
    ciphertexts = scheme.encrypt_with_secret(plain, SECRET)
    attack_input = AttackInput(scheme, ciphertexts, ciphertexts[:0], target_views=scheme.view(ciphertexts, plain.shape))
    return ATTACK.run(attack_input, RunContext(**context))


def test_images_are_separated_and_each_is_given_to_its_target():
    plain = small_photographs(30)
    result = attack(make_scheme("instahide", {}), plain)
    assert ssim(plain, result.reconstructed).mean() > 0.4
    assert result.metrics["encodings"] == 1500
    assert result.metrics["images_found"] >= 20


def test_it_needs_encodings_that_mix_private_images():
    assert ATTACK.not_applicable_reason(make_scheme("instahide", {})) is None
    assert "mix private images" in ATTACK.not_applicable_reason(make_scheme("instahide", {"private": 1}))
    assert "mixtures of several images" in ATTACK.not_applicable_reason(make_scheme("tanaka", {}))
    with pytest.raises(AttackFailed, match="at least 3 images with 2 encodings each are needed; got 2 with 50"):
        attack(make_scheme("instahide", {}), small_photographs(2))


def test_a_cell_attacks_no_more_targets_than_the_attack_takes(monkeypatch):
    none = make_attack("none", {})
    monkeypatch.setattr(type(none), "max_targets", 5)
    options = ScoringOptions(profile="smoke", keys=1, samples=0)
    result = run_cell(make_scheme("tanaka", {}), none, sample(), options, RunContext()).result
    assert result.ssim.n == 5
