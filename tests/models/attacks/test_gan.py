import numpy as np
import pytest
import torch
from torch import nn

from models.attacks.base import AttackFailed, Context, Material
from models.attacks.gan import dcgan_start, generator_of
from models.catalog import make_attack, make_scheme
from models.datasets import sample
from models.networks.block import BlockNetwork
from models.networks.locally_connected import PixelwiseGenerator
from models.networks.patch_discriminator import PatchDiscriminator


@pytest.mark.parametrize(
    ("scheme", "network"),
    [("tanaka", BlockNetwork), ("pixelwise", PixelwiseGenerator), ("ele", nn.Sequential), (None, nn.Sequential)],
)
def test_each_scheme_gets_the_papers_generator(scheme, network):
    images = np.zeros((1, 16, 16, 3), np.uint8)
    material = Material(make_scheme(scheme, {}) if scheme else None, images, images)
    assert isinstance(generator_of(material, make_attack("gan", {}, "smoke").settings)(), network)


def test_the_papers_settings_are_the_defaults(monkeypatch):
    plans = []

    def no_training(make, decks, plan, context):
        plans.append((plan, [o.param_groups[0] for o in make().optimisers]))
        raise AttackFailed

    monkeypatch.setattr("models.training.train", no_training)
    images = sample().train[:2]
    material = Material(make_scheme("tanaka", {}), images, images, public=images)
    with pytest.raises(AttackFailed):
        make_attack("gan", {}).run(material, Context())
    ((plan, groups),) = plans
    assert (plan.epochs, plan.batch) == (100, 64)
    assert [(g["lr"], g["betas"]) for g in groups] == [(2e-4, (0.5, 0.999))] * 2


def test_weights_begin_as_the_authors_did():
    torch.manual_seed(0)
    discriminator = PatchDiscriminator().apply(dcgan_start)
    for weight in (discriminator.layers[0].weight, discriminator.layers[2].parametrizations.weight.original):
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    block = BlockNetwork().apply(dcgan_start)
    assert block.body[0].weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert block.body[1].weight.mean().item() == pytest.approx(1, abs=0.02)


def test_without_a_pair_it_brings_out_what_was_in_the_picture():
    """In a few seconds contours, in which colours is open."""
    public, own = sample().train[0:200:2, :48, :48], sample().train[1:200:2, :48, :48]
    test = sample().test[:8, :48, :48]
    told: dict[str, list[float]] = {}
    material = Material(make_scheme("tanaka", {}), 255 - test, 255 - own, public=public)
    outcome = make_attack("gan", {"epochs": 15, "batch": 16, "rate": 2e-3, "discriminator": 16}).run(
        material, Context(metric=lambda name, step, value: told.setdefault(name, []).append(value))
    )
    assert np.isfinite(told["loss"] + told["discriminator_loss"]).all()
    assert len(told["loss"]) == 15
    assert outcome.reconstructed.std() > 20
    assert abs(np.corrcoef(test.ravel(), outcome.reconstructed.ravel())[0, 1]) > 0.3
    assert outcome.numbers == {"ciphertexts": 100, "public_images": 100}


@pytest.mark.parametrize("missing", ["observed", "public"])
def test_without_ciphertexts_or_public_images_it_says_what_is_missing(missing):
    images = np.zeros((2, 16, 16, 3), np.uint8)
    given = {"observed": images, "public": images, missing: images[:0]}
    with pytest.raises(AttackFailed, match="one of the two is missing"):
        make_attack("gan", {}).run(Material(make_scheme("tanaka", {}), images, **given), Context())


def test_images_too_small_for_the_discriminator_are_a_clear_failure():
    images = np.zeros((2, 12, 12, 3), np.uint8)
    with pytest.raises(AttackFailed, match="at least 16x16"):
        make_attack("gan", {}).run(Material(make_scheme("tanaka", {}), images, images, images), Context())
