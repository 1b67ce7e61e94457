"""Contract tests of every attack in the catalog; a new attack is tested here without further code."""

from dataclasses import replace

import numpy as np
import pytest

from unveil.models import catalog
from unveil.models.core.errors import AttackFailed, Cancelled
from unveil.models.core.images import pad
from unveil.models.core.run_context import RunContext
from unveil.models.data.image_dataset import ImageDataset
from unveil.models.data.sample import sample
from unveil.models.evaluation.attacker_view import build_attack_input, protect_function, split_images
from unveil.models.schemes.base import seed_secret

APPLICABLE_PAIRS = {
    f"{attack}-on-{scheme}{''.join(f',{v}' for v in variant['params'].values())}": (attack, scheme, variant["params"])
    for attack in catalog.attacks()
    for scheme in catalog.schemes()
    if not catalog.schemes()[scheme].trains
    for variant in catalog.describe_scheme(scheme)["variants"]
    if catalog.make_attack(attack, {}).not_applicable_reason(catalog.make_scheme(scheme, variant["params"])) is None
}


@pytest.fixture(params=list(APPLICABLE_PAIRS.values()), ids=list(APPLICABLE_PAIRS))
def pair(request):
    attack, scheme, params = request.param
    return catalog.make_attack(attack, {}, "smoke"), catalog.make_scheme(scheme, params)


def crop(data: ImageDataset, height: int, width: int) -> ImageDataset:
    return replace(data, train=data.train[:, :height, :width], test=data.test[:, :height, :width])


def run_attack(attack, scheme, data, context=None):
    """Run an attack as an evaluation does, without scores and controls."""
    image_split = split_images(attack, pad(data.test, scheme.size_multiple), pad(data.train, scheme.size_multiple))
    protect = protect_function(scheme, attack, seed_secret(bytes(32)))
    attack_input = build_attack_input(scheme, attack, image_split, protect)
    before = [a.copy() for a in (attack_input.targets, attack_input.observed)]
    attack_result = attack.run(attack_input, context or RunContext())
    for array, copy in zip((attack_input.targets, attack_input.observed), before, strict=True):
        assert (array == copy).all(), "an attack must not write into its material"
    return attack_input, attack_result


def test_it_returns_an_image_for_each_target_also_of_images_that_are_not_square(pair):
    attack, scheme = pair
    attack_input, attack_result = run_attack(attack, scheme, crop(sample().take(24, 4), 40, 72))
    if attack.name == "brute-force":
        assert attack_result.reconstructed is None
        assert attack_result.metrics["key_space_bits"] > 0
        return
    if attack.name == "linkage":
        assert attack_result.similarities(attack_input.pairs.plain[:3]).shape == (4, 3)
        return
    assert attack_result.reconstructed.shape == attack_input.images.shape
    assert attack_result.reconstructed.dtype == np.uint8


# Black for every other pair, so that each attack and each scheme meets both tones.
@pytest.mark.parametrize(
    ("pair", "tone"),
    [(pair, 128 * (number % 2)) for number, pair in enumerate(APPLICABLE_PAIRS.values())],
    indirect=["pair"],
    ids=APPLICABLE_PAIRS,
)
def test_constant_images_and_very_few_of_them_do_not_crash_it(pair, tone):
    attack, scheme = pair
    data = crop(sample().take(2, 1), 48, 48)
    flat = replace(data, train=np.full_like(data.train, tone), test=np.full_like(data.test, tone))
    try:
        attack_input, attack_result = run_attack(attack, scheme, flat)
    except AttackFailed:
        return
    assert attack_result.reconstructed is None or attack_result.reconstructed.shape == attack_input.images.shape


def test_it_is_repeatable_and_reports_fractions(pair):
    attack, scheme = pair
    fractions = []
    context = RunContext(seed=3, report=lambda fraction, phase: fractions.append(fraction))
    data = crop(sample().take(16, 3), 48, 48)
    first = run_attack(attack, scheme, data, context)[1].reconstructed
    again = run_attack(attack, scheme, data, RunContext(seed=3))[1].reconstructed
    assert (first is None and again is None) or (first == again).all()
    assert all(0 <= fraction <= 1 for fraction in fractions)


def test_it_lets_a_cancellation_through(pair):
    attack, scheme = pair
    was_called = []

    def cancel(*_):
        was_called.append(True)
        raise Cancelled

    try:
        run_attack(attack, scheme, crop(sample().take(8, 2), 48, 48), RunContext(report=cancel))
    except Cancelled:
        return
    assert not was_called
