"""The paper's networks against plain PyTorch implementations, and golden losses of each."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from unveil.models.data.sample import sample
from unveil.models.networks.block_network import BlockNetwork, from_blocks, to_blocks
from unveil.models.networks.locally_connected import LocallyConnected, PixelwiseGenerator, PixelwiseInverse
from unveil.models.networks.patch_discriminator import MIN_SIDE, PatchDiscriminator
from unveil.models.networks.residual_unet import NibbleLinear, PixelLinear, ResidualUNet
from unveil.models.networks.unet import SigmoidUNet, UNet, UNetGenerator


def _count(network):
    return sum(p.numel() for p in network.parameters())


def test_blocks_and_back():
    images = torch.randn(2, 3, 8, 12)
    blocks = to_blocks(images)
    assert blocks.shape == (2 * 2 * 3, 48)
    assert torch.equal(blocks[0].view(4, 4, 3), images[0, :, :4, :4].permute(1, 2, 0))
    assert torch.equal(from_blocks(blocks, images.shape), images)


def test_the_block_network_is_the_papers_convolutions():
    ours = BlockNetwork(output_tanh=True).train()
    convolutions = nn.Sequential(
        nn.Conv2d(3, 48, 4, 4, bias=False), nn.BatchNorm2d(48), nn.ReLU(),
        nn.Conv2d(48, 48, 1, bias=False), nn.BatchNorm2d(48), nn.ReLU(),
        nn.Conv2d(48, 512, 1, bias=False), nn.BatchNorm2d(512), nn.ReLU(),
        nn.PixelShuffle(4), nn.Conv2d(32, 3, 1), nn.Tanh(),
    )  # fmt: skip
    # nn.PixelShuffle reads channel 16 * c + pixel, the block network 32 * pixel + c: another order of hidden channels.
    shuffled = torch.arange(512).view(16, 32).t().reshape(-1)
    with torch.no_grad():
        convolutions[0].weight.copy_(ours.body[0].weight.view(48, 4, 4, 3).permute(0, 3, 1, 2))
        convolutions[3].weight.copy_(ours.body[3].weight[..., None, None])
        convolutions[6].weight.copy_(ours.body[6].weight[shuffled][..., None, None])
        convolutions[10].weight.copy_(ours.head.weight[..., None, None])
        convolutions[10].bias.copy_(ours.head.bias)
    images = torch.rand(3, 3, 16, 24) * 2 - 1
    torch.testing.assert_close(ours(images), convolutions(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [partial(BlockNetwork, output_tanh=True), partial(PixelwiseGenerator, 8), partial(UNetGenerator, 8)],
    ids=["blocks", "pixels", "unet"],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_linear_initialisation_undoes_contrast_and_tint_but_not_the_sign(make, sign):
    """Up to the difference between two sets of photographs; covariances do not determine the sign."""
    plain = torch.from_numpy(sample().train[:64, :48, :48]).permute(0, 3, 1, 2) / 127.5 - 1
    protected = sign * torch.tensor([0.3, 0.5, 0.2])[:, None, None] * plain
    torch.manual_seed(0)
    network = make()
    network.init_linear(protected[::2], plain[1::2])
    with torch.no_grad():
        made = network(protected)
    assert torch.corrcoef(torch.stack([made.ravel(), sign * plain.ravel()]))[0, 1] > 0.95
    assert made.std().item() == pytest.approx(plain.std().item(), rel=0.25)


@pytest.mark.parametrize("make", [partial(PixelwiseGenerator, 1), partial(UNetGenerator, 2)], ids=["pixels", "unet"])
@pytest.mark.parametrize("flat", [False, True])
def test_the_linear_initialisation_handles_narrow_generators_and_flat_images(make, flat):
    plain = torch.from_numpy(sample().train[:8, :16, :16]).permute(0, 3, 1, 2) / 127.5 - 1
    network = make()
    network.init_linear(torch.ones_like(plain) if flat else -plain, plain)
    with torch.no_grad():
        assert network(plain).isfinite().all()


def test_a_locally_connected_layer_gives_each_pixel_weights_of_its_own():
    layer = LocallyConnected(pixels=5, inputs=3, outputs=4)
    with torch.no_grad():
        layer.bias.normal_()
    x = torch.randn(5, 7, 3)
    expected = torch.stack([F.linear(x[p], layer.weight[p].t(), layer.bias[p, 0]) for p in range(5)])
    torch.testing.assert_close(layer(x), expected)


def test_the_pixelwise_inverse_sees_one_pixel_at_a_time():
    network = PixelwiseInverse(4, 6, 8).eval()
    images = torch.rand(2, 3, 4, 6)
    changed = images.clone()
    changed[:, :, 1, 2] = 0.5
    differs = (network(images) != network(changed)).any(1)
    assert differs[:, 1, 2].all()
    assert differs.sum() == 2


def test_the_unet_has_the_published_number_of_weights():
    assert _count(UNet()) == 34_527_171


@pytest.mark.parametrize("size", [(1, 1), (33, 50), (48, 96)])
@pytest.mark.parametrize("fold", [1, 3])
def test_the_unet_takes_any_size(size, fold):
    assert UNet(4, fold).eval()(torch.rand(1, 3, *size)).shape == (1, 3, *size)


def test_generator_outputs_lie_in_the_range_of_images():
    images = torch.randn(2, 3, 8, 8) * 50
    for network in (PixelwiseGenerator(), BlockNetwork(output_tanh=True)):
        assert network(images).shape == images.shape
        assert network(images).abs().max() <= 1


def test_the_discriminator_gives_a_map_and_takes_images_down_to_its_minimum():
    discriminator = PatchDiscriminator()
    assert discriminator(torch.rand(2, 3, 96, 96)).shape == (2, 1, 7, 7)
    assert discriminator(torch.rand(2, 3, MIN_SIDE, MIN_SIDE)).shape == (2, 1, 1, 1)
    with pytest.raises(RuntimeError):
        discriminator(torch.rand(2, 3, MIN_SIDE - 1, MIN_SIDE - 1))


# Mean squared error after 12 steps of plain gradient descent on one fixed batch. A change that moves one of these
# values has changed the training: show that it still converges, then update the value.
GOLDEN = {
    "block": (BlockNetwork, 0.1, 0.30310),
    "pixelwise": (lambda: PixelwiseInverse(16, 16, 8), 0.1, 0.44971),
    "pixelwise generator": (PixelwiseGenerator, 0.1, 0.04341),
    "unet": (lambda: UNet(8), 0.1, 0.25407),
    "tn-model's": (lambda: SigmoidUNet(8), 0.1, 0.25526),
    "tn-model's, folded": (lambda: SigmoidUNet(8, 2), 0.1, 0.32639),
    "nibbles": (NibbleLinear, 0.1, 0.35456),
    "pixels": (lambda: PixelLinear(16, 16), 10.0, 0.12646),  # the mean over pixels hardly changes one pixel
    "residual unet": (lambda: ResidualUNet(4, 1), 0.1, 0.31464),
}


@pytest.mark.parametrize(("make", "rate", "golden"), GOLDEN.values(), ids=GOLDEN.keys())
def test_golden_losses(make, rate, golden):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = make()
        plain = torch.rand(8, 3, 16, 16) * 2 - 1
    optimizer = torch.optim.SGD(network.parameters(), rate, 0.9)
    for _ in range(12):
        loss = F.mse_loss(network(-plain), plain)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() == pytest.approx(golden, rel=0.02)


def test_golden_loss_of_the_discriminator():
    """The cross-entropy of classifying bright and dark images, 2 ln 2 at the start."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PatchDiscriminator(8)
        bright = torch.rand(8, 3, 16, 16)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, 0.9)
    for _ in range(12):
        loss = F.softplus(-network(bright)).mean() + F.softplus(network(-bright)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() == pytest.approx(0.31143, rel=0.02)
