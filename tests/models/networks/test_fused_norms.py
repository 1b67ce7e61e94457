import copy

import numpy as np
import pytest
import torch
from torch import nn

from unveil.models.core import numba_kernels
from unveil.models.networks.fused_norms import FusedNorms
from unveil.models.networks.resnet20 import ResNet20
from unveil.models.networks.resnet_generator import PatchGan, ResNetGenerator
from unveil.models.networks.unet import UNet

CHAINS = {
    "batch": lambda: [nn.BatchNorm2d(8), nn.ReLU(inplace=True)],
    "batch, a width that fills no register": lambda: [nn.BatchNorm2d(5), nn.ReLU(inplace=True)],
    "batch, nothing after": lambda: [nn.BatchNorm2d(8)],
    "instance": lambda: [nn.InstanceNorm2d(24), nn.LeakyReLU(0.2, inplace=True)],
    "instance, wide": lambda: [nn.InstanceNorm2d(130), nn.ReLU()],
    "instance, nothing after": lambda: [nn.InstanceNorm2d(3)],
}


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    """How often the compiled loop was asked."""
    made, normalise = [], numba_kernels.normalise

    def counted(*given):
        made.append(given)
        normalise(*given)

    monkeypatch.setattr(numba_kernels, "normalise", counted)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    return made


def _images(channels, side=9, count=4, dtype=torch.bfloat16):
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(count, channels, side, side + 2, generator=generator) * 2 + 3
    return values.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()


def _away(made, right):
    """Root mean square of the difference, in parts of that of what is right."""
    made, right = made.detach().double(), right.detach().double()
    return float((made - right).norm() / right.norm())


def _learned(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = make()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)
    return network.to(memory_format=torch.channels_last).train()


def _asked(network, images):
    """Output, and gradients of images and weights, for a gradient of ones and twos."""
    out = network(images)
    gradient = (torch.arange(out.numel()).view(out.shape) % 2 + 1).to(out.dtype)
    return out, torch.autograd.grad(out, [images, *network.parameters()], gradient)


@pytest.mark.parametrize(
    ("dtype", "rounding", "other_side"),
    # Where a value lies within its rounding of 0, ReLU takes the other side: one or two of thousands.
    [(torch.bfloat16, 2**-8, 0.03), (torch.float32, 1e-6, 1e-5)],
    ids=["bfloat16", "float32"],
)
@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_a_norm_its_gradients_and_its_statistics_are_right(chain, dtype, rounding, other_side, calls):
    network = _learned(lambda: nn.Sequential(*chain()))
    exact = copy.deepcopy(network).double()
    images = _images(network[0].num_features, dtype=dtype)
    with FusedNorms(network):
        out, gradients = _asked(network, images)
    assert len(calls) == 1
    wanted, exact_gradients = _asked(exact, images.detach().double().requires_grad_())
    assert _away(out, wanted) < rounding
    for made, right in zip(gradients, exact_gradients, strict=True):
        assert _away(made, right) < other_side
    for name, value in exact.state_dict().items():
        assert torch.allclose(network.state_dict()[name].double(), value.double(), rtol=1e-5, atol=1e-6), name


@pytest.mark.parametrize(
    "make",
    [lambda: UNet(8), lambda: ResNet20(10, 8), lambda: ResNetGenerator(8, 2), lambda: PatchGan(8)],
    ids=["unet", "resnet20", "generator", "patchgan"],
)
def test_a_network_learns_the_same_and_every_norm_is_taken(make, calls):
    network = _learned(make)
    norms = [
        m for m in network.modules()
        if isinstance(m, nn.InstanceNorm2d) or (isinstance(m, nn.BatchNorm2d) and m.num_features < 16)
    ]  # fmt: skip
    assert norms
    plain, exact = copy.deepcopy(network), copy.deepcopy(network)
    images = _images(3, side=48).detach()[..., :48].float().contiguous(memory_format=torch.channels_last)
    images.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16), FusedNorms(network):
        out, gradients = _asked(network, images)
    assert len(calls) == len(norms)
    with torch.autocast("cpu", torch.bfloat16):
        plain_out, plain_gradients = _asked(plain, images)
    exact_out, exact_gradients = _asked(exact, images)
    # No further from float32 than PyTorch's own in bfloat16.
    assert _away(out, exact_out) < 1.2 * _away(plain_out, exact_out)
    made, usual, right = (
        torch.cat([g.flatten() for g in all_]) for all_ in (gradients, plain_gradients, exact_gradients)
    )
    assert _away(made, right) < 1.2 * _away(usual, right)


def test_it_reads_variances_far_below_the_mean(calls):
    network = nn.Sequential(nn.InstanceNorm2d(8)).train()
    images = (_images(8).detach().float() / 8 + 300).bfloat16().contiguous(memory_format=torch.channels_last)
    with FusedNorms(network):
        assert _away(network(images), network[0].__class__(8)(images.double())) < 2**-8
    assert len(calls) == 1


def test_a_network_that_is_asked_is_left_as_it_is(calls):
    network = _learned(lambda: nn.Sequential(*CHAINS["batch"]())).eval()
    images, plain = _images(8).detach(), copy.deepcopy(network)
    with FusedNorms(network):
        assert torch.equal(network(images), plain(images))
    assert not calls
    assert not any("forward" in vars(module) for module in network.modules())


def test_a_single_pixel_is_refused_as_ever():
    with FusedNorms(network := nn.Sequential(nn.BatchNorm2d(8))), pytest.raises(ValueError, match="more than 1 value"):
        network(torch.ones(1, 8, 1, 1).bfloat16())


def test_what_is_no_number_stays_none():
    images = _images(8).detach()
    images[0, 0, 0, 0] = np.nan
    with FusedNorms(network := nn.Sequential(nn.BatchNorm2d(8), nn.ReLU())):
        assert network(images)[:, 0].isnan().all()


def test_many_threads_and_a_missing_compiler_leave_pytorch_its_way(monkeypatch):
    network = nn.Sequential(nn.BatchNorm2d(8))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert FusedNorms(network).forwards == {}
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(numba_kernels, "normalise", None)
    assert FusedNorms(network).forwards == {}
