import numpy as np

from unveil.models.attacks.base import AttackInput
from unveil.models.attacks.fr import feature_reconstruction
from unveil.models.attacks.fr_sorted import FrSorted, FrSortedSettings
from unveil.models.catalog import make_attack, make_scheme, new_secret
from unveil.models.core.run_context import RunContext
from unveil.models.data.sample import sample
from unveil.models.metrics.ssim import ssim
from unveil.models.schemes.base import seed_secret


def _reconstruct(protected, settings=None):
    attack = FrSorted(settings or FrSortedSettings())
    return attack.run(AttackInput(None, protected, protected[:0]), RunContext()).reconstructed


def test_sorting_the_channels_makes_the_result_independent_of_the_key():
    plain = sample().test[:4, :32, :32]
    scheme = make_scheme("pixelwise", {"key_mode": "different"})
    reconstructed = [_reconstruct(scheme.protect(plain, new_secret())) for _ in range(2)]
    np.testing.assert_array_equal(reconstructed[0], reconstructed[1])
    np.testing.assert_array_equal(reconstructed[0], _reconstruct(plain))


def test_sorted_channels_have_a_higher_ssim_than_fr_alone():
    plain = sample().test[:24]
    protected = make_scheme("pixelwise", {"key_mode": "different"}).protect(plain, seed_secret(bytes(32)))
    alone = ssim(plain, feature_reconstruction(protected)).mean()
    assert ssim(plain, _reconstruct(protected)).mean() > alone + 0.05


def test_the_leading_bit_chooses_between_dark_and_bright():
    pixels = np.array([[[[10, 200, 130]]]], np.uint8)
    assert _reconstruct(pixels).ravel().tolist() == [125, 55, 10]
    assert _reconstruct(pixels, FrSortedSettings(b=1)).ravel().tolist() == [245, 200, 130]


def test_schemes_that_do_not_shuffle_colours_within_a_pixel_are_refused():
    attack = make_attack("fr-sorted", {})
    assert attack.not_applicable_reason(make_scheme("pixelwise", {})) is None
    assert "colour shuffle" in attack.not_applicable_reason(make_scheme("tanaka", {}))
