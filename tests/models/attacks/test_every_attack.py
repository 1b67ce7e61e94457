"""What holds for every attack in the catalog: a new file is tested here without writing more."""

from dataclasses import replace

import numpy as np
import pytest

from unveil.models import catalog
from unveil.models.core.errors import AttackFailed, Cancelled
from unveil.models.core.images import pad
from unveil.models.core.run_context import Context
from unveil.models.data.datasets import Data, sample
from unveil.models.evaluation.attacker_view import allowed, lay_out
from unveil.models.schemes.base import seed_secret

PAIRS = {
    f"{attack}-on-{scheme}{''.join(f',{v}' for v in variant['params'].values())}": (attack, scheme, variant["params"])
    for attack in catalog.attacks()
    for scheme in catalog.schemes()
    if not catalog.schemes()[scheme].trains
    for variant in catalog.describe_scheme(scheme)["variants"]
    if catalog.make_attack(attack, {}).refuses(catalog.make_scheme(scheme, variant["params"])) is None
}
IMAGES = {"natural": (96, 96), "wide": (40, 72)}


@pytest.fixture(params=list(PAIRS.values()), ids=list(PAIRS))
def pair(request):
    attack, scheme, params = request.param
    return catalog.make_attack(attack, {}, "smoke"), catalog.make_scheme(scheme, params)


def cut(data: Data, height: int, width: int) -> Data:
    return replace(data, train=data.train[:, :height, :width], test=data.test[:, :height, :width])


def run(attack, scheme, data, context=None):
    """As an evaluation runs it, without scores and controls."""
    lab = lay_out(attack, pad(data.test, scheme.multiple), pad(data.train, scheme.multiple))
    secret = seed_secret(bytes(32))
    material = allowed(scheme, attack, lab, lambda images, first: scheme.protect(images, secret, first))
    before = [a.copy() for a in (material.targets, material.observed)]
    outcome = attack.run(material, context or Context())
    for array, copy in zip((material.targets, material.observed), before, strict=True):
        assert (array == copy).all(), "an attack must not write into its material"
    return material, outcome


@pytest.mark.parametrize("size", IMAGES.values(), ids=IMAGES.keys())
def test_it_brings_back_an_image_for_each_target_of_any_size(pair, size):
    attack, scheme = pair
    material, outcome = run(attack, scheme, cut(sample().first(24, 4), *size))
    if attack.name == "brute-force":
        assert outcome.reconstructed is None
        assert outcome.numbers["key_space_bits"] > 0
        return
    assert outcome.reconstructed.shape == material.targets.shape
    assert outcome.reconstructed.dtype == np.uint8


@pytest.mark.parametrize("tone", [0, 128])
def test_constant_images_and_very_few_of_them_are_no_crash(pair, tone):
    attack, scheme = pair
    data = sample().first(2, 1)
    flat = replace(data, train=np.full_like(data.train, tone), test=np.full_like(data.test, tone))
    try:
        material, outcome = run(attack, scheme, flat)
    except AttackFailed:
        return
    assert outcome.reconstructed is None or outcome.reconstructed.shape == material.targets.shape


def test_it_is_repeatable_and_reports_fractions(pair):
    attack, scheme = pair
    told = []
    context = Context(seed=3, report=lambda fraction, phase: told.append(fraction))
    data = cut(sample().first(16, 3), 48, 48)
    first = run(attack, scheme, data, context)[1].reconstructed
    again = run(attack, scheme, data, Context(seed=3))[1].reconstructed
    assert (first is None and again is None) or (first == again).all()
    assert all(0 <= fraction <= 1 for fraction in told)


def test_cancel_is_not_swallowed(pair):
    attack, scheme = pair
    asked = []

    def cancel(*_):
        asked.append(True)
        raise Cancelled

    try:
        run(attack, scheme, cut(sample().first(8, 2), 48, 48), Context(report=cancel))
    except Cancelled:
        return
    assert not asked
