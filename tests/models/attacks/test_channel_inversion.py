"""Inversion of frequency channels: the key of each image, and the image, from one ciphertext."""

from dataclasses import replace

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
from unveil.models.recovery.channel_subsets import invert
from unveil.models.schemes.base import image_secret, seed_secret

SECRET = seed_secret(bytes(range(32)))
SCHEME, ATTACK = make_scheme("partialface", {}), make_attack("channel-inversion", {})


def attack(ciphertexts, shape):
    views = SCHEME.view(ciphertexts, shape)
    return ATTACK.run(AttackInput(SCHEME, ciphertexts, ciphertexts[:0], target_views=views), RunContext())


def test_the_key_of_every_image_and_the_image_come_from_its_ciphertext_alone():
    plain = photographs(12, 32, 40)
    found = invert(SCHEME.encrypt_with_secret(plain, SECRET), SCHEME.structure)
    keys = [SCHEME.key(image_secret(SECRET, i), 32, 40) for i in range(12)]
    assert list(found.subsets) == [key.subset for key in keys]
    assert list(found.orders) == [key.order for key in keys]
    assert found.unexplained.max() < 1e-6
    assert ssim(plain, found.images).mean() > 0.7


def test_noise_gives_no_layout_and_large_images_are_refused():
    noise = np.random.default_rng(0).uniform(-1024, 1024, (3, 27, 32, 32)).astype(np.float32)
    result = attack(noise, (3, 32, 32, 3))
    assert result.metrics["unexplained"] > 0.5
    assert result.reconstructed.std() < 60
    with pytest.raises(AttackFailed, match="up to 65,536 pixels"):
        attack(np.zeros((1, 27, 300, 300), np.float32), (1, 300, 300, 3))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 9), (13, 30)])
def test_images_of_any_size_are_inverted(height, width):
    plain = photographs(2, height, width)
    assert attack(SCHEME.encrypt_with_secret(plain, SECRET), plain.shape).reconstructed.shape == plain.shape


def test_a_cell_passes_its_controls_and_leaks():
    options = ScoringOptions(profile="smoke", keys=1, samples=0)
    whole = sample().take(16, 20)
    data = replace(whole, train=whole.train[:, :48, :48], test=whole.test[:, :48, :48])
    result = run_cell(SCHEME, ATTACK, data, options, RunContext()).result
    assert (result.controls.positive, result.controls.negative) == ("passed", "passed")
    assert result.verdict in ("leaks", "broken")
    assert result.identification.top1 > 0.9


def test_it_needs_frequency_channels():
    assert ATTACK.not_applicable_reason(SCHEME) is None
    assert "frequency channels" in ATTACK.not_applicable_reason(make_scheme("minusface", {}))
