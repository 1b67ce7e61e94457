import numpy as np
import pytest

from tests.models.sample_images import photographs
from unveil.models import catalog
from unveil.models.attacks.fr import feature_reconstruction
from unveil.models.catalog import ParameterError, make_attack
from unveil.models.metrics.ssim import ssim
from unveil.models.schemes.base import seed_secret

VALUES = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("leading", [0, 1])
def test_it_is_algorithm_1(bits, leading):
    expected = [p ^ (2**bits - 1) if p // 2 ** (bits - 1) != leading else p for p in range(256)]
    assert feature_reconstruction(VALUES, bits, leading).tolist() == expected


def test_nibblewise_treats_the_halves_separately():
    fold = [n ^ 15 if n // 8 != 0 else n for n in range(16)]
    expected = [fold[p // 16] * 16 + fold[p % 16] for p in range(256)]
    assert feature_reconstruction(VALUES, nibblewise=True).tolist() == expected


def test_it_undoes_the_inversions_of_pixelwise_encryption_under_any_key():
    plain = photographs(8)
    folded = {}
    for key_mode in ("same", "different"):
        scheme = catalog.make_scheme("pixelwise", {"key_mode": key_mode})
        folded[key_mode] = ssim(plain, feature_reconstruction(scheme.protect(plain, seed_secret(bytes(32))))).mean()
        assert folded[key_mode] > 0.1
    assert folded["same"] == pytest.approx(folded["different"], abs=0.02)


def test_limits_of_its_settings():
    for settings in ({"L": 9}, {"L": 0}, {"b": 2}, {"nibblewise": "yes"}):
        with pytest.raises(ParameterError):
            make_attack("fr", settings)
