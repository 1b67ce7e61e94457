import numpy as np
import pytest
import torch

from unveil.models.attacks.base import AttackInput, Pairs
from unveil.models.attacks.itn_strong import distance, strong_inverse_network
from unveil.models.catalog import make_attack, make_scheme
from unveil.models.core.errors import AttackFailed
from unveil.models.core.run_context import RunContext
from unveil.models.data.sample import sample
from unveil.models.metrics.ssim import ssim
from unveil.models.networks.residual_unet import NibbleLinear, PixelLinear, ResidualUNet
from unveil.models.schemes.base import seed_secret
from unveil.models.training.loop import to_model_input

SECRET = seed_secret(bytes(32))


def _tiles():
    return np.concatenate([sample().train[:200, y : y + 32, x : x + 32] for y in (0, 48) for x in (0, 48)])


def _attack_input(scheme, train, test):
    pairs = Pairs(train, scheme.protect(train, SECRET, len(test)))
    return AttackInput(scheme, scheme.protect(test, SECRET, 0), train[:0], pairs=pairs)


@pytest.mark.parametrize(
    ("scheme", "params", "network", "linear"),
    [
        ("tanaka", {}, NibbleLinear, True),
        ("pixelwise", {}, PixelLinear, True),
        ("pixelwise", {"key_mode": "different"}, ResidualUNet, False),
        ("ele", {}, ResidualUNet, False),
        (None, {}, ResidualUNet, False),
    ],
)
def test_the_structure_of_the_scheme_selects_the_network(scheme, params, network, linear):
    images = np.zeros((1, 16, 16, 3), np.uint8)
    attack_input = AttackInput(make_scheme(scheme, params) if scheme else None, images, images)
    make, is_linear = strong_inverse_network(attack_input, make_attack("itn-strong", {}, "smoke").settings)
    assert isinstance(make(), network)
    assert is_linear is linear


def test_the_linear_map_of_nibbles_can_be_tanakas_exact_inverse():
    scheme = make_scheme("tanaka", {})
    key = scheme.key(SECRET, 16, 16)
    plain = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    network = NibbleLinear()
    source = np.argsort(key.permutation)  # plain nibble i lies at protected place source[i]
    sign = torch.from_numpy(np.where(key.reversed, -1.0, 1.0)).float()
    with torch.no_grad():
        network.linear.weight.zero_()
        network.linear.bias.zero_()
        for value in range(48):
            for nibble, worth in ((value, 1), (48 + value, 16)):
                network.linear.weight[value, source[nibble]] = sign[nibble] * worth * 7.5 / 127.5
    reconstructed = network(to_model_input(torch.from_numpy(scheme.encrypt(plain, key))))
    torch.testing.assert_close(reconstructed, to_model_input(torch.from_numpy(plain)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("scheme", ["tanaka", "pixelwise"])
def test_it_reaches_a_higher_ssim_than_the_papers_network_on_the_same_images(scheme):
    scheme, test = make_scheme(scheme, {}), sample().test[:8, 32:64, 32:64]
    attack_input = _attack_input(scheme, _tiles(), test)

    def reconstruction_ssim(attack):
        attack_result = make_attack(attack, {"epochs": 6}, "quick").run(attack_input, RunContext())
        return ssim(test, attack_result.reconstructed).mean()

    assert reconstruction_ssim("itn-strong") > max(0.8, reconstruction_ssim("itn"))


@pytest.mark.parametrize("size", [(1, 1), (33, 50), (48, 96)])
def test_the_residual_unet_takes_any_size(size):
    assert ResidualUNet(4, 1).eval()(torch.rand(1, 3, *size)).shape == (1, 3, *size)


def test_the_distance_of_equal_images_is_zero():
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    assert distance(images, images, 0.5).item() == pytest.approx(0, abs=1e-5)
    assert distance(-images, images, 0.5) > distance(images * 0.9, images, 0.5)


def test_images_too_small_for_ssim_are_refused():
    attack_input = _attack_input(
        make_scheme("tanaka", {}), np.zeros((2, 4, 4, 3), np.uint8), np.zeros((1, 4, 4, 3), np.uint8)
    )
    with pytest.raises(AttackFailed, match="7x7"):
        make_attack("itn-strong", {}).run(attack_input, RunContext())
