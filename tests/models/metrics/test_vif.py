import numpy as np
import pytest
from sewar.full_ref import vifp

from tests.models.sample_images import photographs
from unveil.models.metrics.vif import MIN_SIDE, vif

PLAIN = photographs(4)
LUMA = np.array([0.299, 0.587, 0.114])
RNG = np.random.default_rng(0)
DISTORTIONS = {
    "itself": PLAIN,
    "noise": np.clip(PLAIN + RNG.normal(0, 20, PLAIN.shape), 0, 255).astype(np.uint8),
    "half contrast": PLAIN // 2 + 64,
    "shifted": np.roll(PLAIN, 3, axis=2),
    "inverted": 255 - PLAIN,
    "other images": np.roll(PLAIN, 1, axis=0),
    "random": RNG.integers(0, 256, PLAIN.shape, np.uint8),
    "flat": np.full_like(PLAIN, 128),
}


@pytest.mark.parametrize("distorted", DISTORTIONS.values(), ids=DISTORTIONS.keys())
def test_it_equals_the_reference(distorted):
    expected = [vifp(a @ LUMA, b @ LUMA) for a, b in zip(PLAIN, distorted, strict=True)]
    assert vif(PLAIN, distorted) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("height", "width"), [(MIN_SIDE, MIN_SIDE), (47, 130), (224, 96)])
def test_it_equals_the_reference_at_every_size(height, width):
    plain = photographs(1, height, width)
    other = np.clip(plain + RNG.normal(0, 10, plain.shape), 0, 255).astype(np.uint8)
    assert vif(plain, other)[0] == pytest.approx(vifp(plain[0] @ LUMA, other[0] @ LUMA), abs=1e-9)


def test_more_noise_means_less_information():
    noise = RNG.normal(0, 1, PLAIN.shape)
    means = [vif(PLAIN, np.clip(PLAIN + s * noise, 0, 255).astype(np.uint8)).mean() for s in (0, 5, 20, 80)]
    assert means == sorted(means, reverse=True)
    assert means[0] == pytest.approx(1)


def test_a_flat_original_shares_information_only_with_itself():
    flat = np.full((2, 64, 64, 3), 9, np.uint8)
    other = flat.copy()
    other[1] = 10
    assert vif(flat, other).tolist() == [1, 0]


def test_too_small_images_are_refused():
    small = PLAIN[:, : MIN_SIDE - 1]
    with pytest.raises(ValueError, match=f"at least {MIN_SIDE}x{MIN_SIDE}; got 96x{MIN_SIDE - 1}"):
        vif(small, small)
