import copy

import numpy as np
import pytest
import torch
from torch import nn

from models.attacks.base import AttackFailed, Context, Material
from models.attacks.gan import dcgan_start, generator_of, negative
from models.catalog import make_attack, make_scheme
from models.datasets import sample
from models.lessons import Adversarial
from models.networks.block import BlockNetwork
from models.networks.locally_connected import PixelwiseGenerator
from models.networks.patch_discriminator import PatchDiscriminator
from models.networks.unet import UNet
from models.training import Plan, constant, train


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
        plans.append((plan, make()))
        raise AttackFailed

    monkeypatch.setattr("models.training.train", no_training)
    images = sample().train[:2]
    material = Material(make_scheme("tanaka", {}), images, images, public=images)
    with pytest.raises(AttackFailed):
        make_attack("gan", {}).run(material, Context())
    ((plan, lesson),) = plans
    groups = [optimiser.param_groups[0] for optimiser in lesson.optimisers]
    ((_, discriminator),) = lesson.starts
    assert discriminator.layers[-1].kernel_size == 3
    assert lesson.kept == 0
    assert lesson.learned(0) is lesson.starts[0][0]
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


@pytest.mark.parametrize("make", [PixelwiseGenerator, lambda: BlockNetwork(squash=True), lambda: UNet(4)])
def test_the_second_start_makes_the_negative_of_what_the_first_one_makes(make):
    generator = make().apply(dcgan_start).eval()
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made, turned = generator(images), negative(generator).eval()(images)
    assert made.std() > 0
    assert torch.equal(turned, -made)


class _Fixed(nn.Module):
    """Shows images as they are, or their negative."""

    def __init__(self, sign):
        super().__init__()
        self.sign = nn.Parameter(torch.tensor(float(sign)))

    def forward(self, images):
        return self.sign * images


@pytest.mark.parametrize("right", [0, 1])
def test_of_two_starts_the_one_is_kept_that_looks_like_plain_images(right):
    signs = (1, -1) if right == 0 else (-1, 1)

    def optimiser(network):
        return torch.optim.Adam(network.parameters(), 0.0 if isinstance(network, _Fixed) else 1e-3)

    def make():
        discriminator = PatchDiscriminator(8).apply(dcgan_start)
        return Adversarial([(_Fixed(sign), copy.deepcopy(discriminator)) for sign in signs], optimiser, 32, trial=8)

    images = sample().train
    lesson, _ = train(make, [[images[0::2]], [images[1::2]]], Plan("trial", 9, 16, constant), Context())
    assert lesson.kept == right
    assert lesson.told_apart[right] > 1.01 * lesson.told_apart[1 - right]


def test_the_average_of_the_generators_weights_follows_them():
    torch.manual_seed(0)
    lesson = Adversarial(
        [(BlockNetwork(squash=True), PatchDiscriminator(4))],
        lambda network: torch.optim.Adam(network.parameters(), 1e-3),
        average=0.75,
    )
    images = [torch.from_numpy(sample().train[:4, :16, :16])] * 2
    seen = []
    for _ in range(3):
        lesson.step(images, torch.Generator())
        seen.append(lesson.starts[0][0].head.weight.detach().clone())
    expected = 0.75 * (0.75 * seen[0] + 0.25 * seen[1]) + 0.25 * seen[2]
    assert torch.allclose(lesson.learned(0).module.head.weight, expected)
    assert not torch.allclose(seen[2], expected)
