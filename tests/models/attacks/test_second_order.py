"""second-order as an evaluation runs it."""

import numpy as np
import pytest

from tests.models.sample_images import photographs
from unveil.models.attacks.base import AttackInput
from unveil.models.catalog import make_attack, make_scheme
from unveil.models.core.errors import AttackFailed
from unveil.models.core.run_context import RunContext
from unveil.models.schemes.base import seed_secret

SECRET = seed_secret(bytes([5] * 32))


def test_the_attack_reports_its_fit_and_a_curve():
    scheme = make_scheme("block-orthogonal", {})
    protected = scheme.protect(photographs(12), SECRET)
    result = make_attack("second-order", {"ciphertexts": 4}).run(
        AttackInput(scheme, protected[:8], protected[8:]), RunContext()
    )
    assert result.reconstructed.shape == (8, 96, 96, 3)
    assert [x for _, x, _ in result.ablation] == [1, 2, 4]
    assert result.metrics["ciphertexts"] == 4
    assert result.metrics["fit"] > 0.7
    assert (result.inverse.decrypt(protected[:8]) == result.reconstructed).all()


def test_a_failed_fit_is_noted():
    noise = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 3), np.uint8)
    attack = make_attack("second-order", {"curve": False})
    result = attack.run(AttackInput(make_scheme("block-orthogonal", {}), noise[:2], noise[2:]), RunContext())
    assert any("the map was not found" in note for note in result.notes)
    flat = np.full_like(noise, 9)
    with pytest.raises(AttackFailed, match="equal"):
        attack.run(AttackInput(make_scheme("block-orthogonal", {}), flat, flat), RunContext())


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("block-orthogonal", {}, None),
        ("block-orthogonal", {"block": 16}, "pixels a side"),
        ("vit-permutation", {"fixed_blocks": 1.0}, None),
        ("vit-permutation", {"fixed_blocks": 1.0, "key_mode": "different"}, "key of its own"),
        ("vit-permutation", {}, "stay in place"),
        ("etc", {}, "stay in place"),
        ("tanaka", {}, "stay in place"),
    ],
)
def test_it_applies_to_fixed_maps_of_small_blocks(name, settings, reason):
    found = make_attack("second-order", {}).not_applicable_reason(make_scheme(name, settings))
    assert found is None if reason is None else reason in found
