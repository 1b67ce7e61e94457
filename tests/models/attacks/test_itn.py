import numpy as np
import pytest

from unveil.models.attacks.base import AttackInput, Pairs
from unveil.models.attacks.itn import inverse_network
from unveil.models.catalog import attacks, make_attack, make_scheme
from unveil.models.core.errors import AttackFailed
from unveil.models.core.run_context import RunContext
from unveil.models.data.sample import sample
from unveil.models.metrics.ssim import ssim
from unveil.models.networks.block_network import BlockNetwork
from unveil.models.networks.locally_connected import PixelwiseInverse
from unveil.models.networks.unet import UNet
from unveil.models.schemes.base import seed_secret

SECRET = seed_secret(bytes(32))


def _attack_input(scheme, train, test):
    return AttackInput(
        scheme=scheme,
        targets=scheme.protect(test, SECRET, 0),
        observed=train[:0],
        pairs=Pairs(train, scheme.protect(train, SECRET, len(test))),
    )


@pytest.mark.parametrize(
    ("scheme", "network"),
    [("tanaka", BlockNetwork), ("pixelwise", PixelwiseInverse), ("ele", UNet), (None, UNet)],
)
def test_each_scheme_gets_the_papers_network(scheme, network):
    images = np.zeros((1, 16, 16, 3), np.uint8)
    attack_input = AttackInput(make_scheme(scheme, {}) if scheme else None, images, images)
    assert isinstance(inverse_network(attack_input, make_attack("itn", {}, "smoke").settings)(), network)


def test_the_papers_settings_are_the_defaults(monkeypatch):
    configs = []

    def no_training(make, tensor_groups, config, context):
        group = make().optimizers[0].param_groups[0]
        configs.append((config, group["lr"], group["momentum"], group["weight_decay"]))
        raise AttackFailed

    monkeypatch.setattr("unveil.models.training.loop.train", no_training)
    for scheme in ("pixelwise", "tanaka"):
        data = sample().take(2, 1)
        attack_input = _attack_input(make_scheme(scheme, {}), data.train[:, :16, :16], data.test[:, :16, :16])
        with pytest.raises(AttackFailed):
            make_attack("itn", {}).run(attack_input, RunContext())
    (pixelwise, *rates), (tanaka, *same_rates) = configs
    assert (pixelwise.epochs, pixelwise.batch_size) == (70, 128)
    assert (tanaka.epochs, tanaka.batch_size) == (300, 128)
    assert rates == same_rates == [0.1, 0.9, 5e-4]
    assert [round(pixelwise.lr_schedule(e / 70), 9) for e in (39, 40, 59, 60)] == [1, 0.1, 0.1, 0.01]
    assert [round(tanaka.lr_schedule(e / 300), 9) for e in (149, 150, 224, 225)] == [1, 0.1, 0.1, 0.01]


@pytest.mark.parametrize(("scheme", "settings"), [("tanaka", {"epochs": 12}), ("pixelwise", {"epochs": 12})])
def test_a_short_training_inverts_the_scheme(scheme, settings):
    scheme = make_scheme(scheme, {})
    train = np.concatenate([sample().train[:200, y : y + 32, x : x + 32] for y in (0, 48) for x in (0, 48)])
    test = sample().test[:8, 32:64, 32:64]
    attack_input = _attack_input(scheme, train, test)
    losses = []
    attack_result = make_attack("itn", settings, "quick").run(
        attack_input, RunContext(metric=lambda name, step, value: losses.append(value) if name == "loss" else None)
    )
    assert losses[-1] < losses[0] / 2
    assert ssim(test, attack_result.reconstructed).mean() > ssim(test, attack_input.targets).mean() + 0.25
    assert attack_result.metrics == {"pairs": 800}


def test_missing_pairs_are_named():
    images = np.zeros((1, 16, 16, 3), np.uint8)
    with pytest.raises(AttackFailed, match="pairs"):
        make_attack("itn", {}).run(AttackInput(make_scheme("tanaka", {}), images, images), RunContext())


def test_it_declares_that_it_trains_a_network():
    assert attacks()["itn"].learning_based
