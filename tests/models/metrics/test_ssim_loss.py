import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch.nn import functional as F

from unveil.models.data.sample import sample
from unveil.models.metrics.ssim_loss import _Sum7, ssim_rgb7


def _pair():
    plain = sample().test[:3]
    noise = np.random.default_rng(0).normal(0, 20, plain.shape)
    return plain, np.clip(plain + noise, 0, 255).astype(np.uint8)


def _floats(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).float()


def test_it_is_scikit_images():
    plain, other = _pair()
    expected = [structural_similarity(a, b, channel_axis=2, data_range=255) for a, b in zip(plain, other, strict=True)]
    assert ssim_rgb7(_floats(plain), _floats(other)).tolist() == pytest.approx(expected, abs=1e-4)


def test_sums_and_their_gradient_are_those_of_average_pooling():
    x = torch.randn(2, 3, 9, 12, dtype=torch.float64, requires_grad=True)
    ours, theirs = _Sum7.apply(x), 49 * F.avg_pool2d(x, 7, stride=1)
    weights = torch.randn_like(ours)
    gradients = [torch.autograd.grad((sums * weights).sum(), x)[0] for sums in (ours, theirs)]
    assert torch.allclose(ours, theirs)
    assert torch.allclose(*gradients)


def test_a_step_along_the_gradient_raises_the_ssim():
    plain, other = map(_floats, _pair())
    other.requires_grad_(True)
    before = ssim_rgb7(other, plain).mean()
    before.backward()
    assert ssim_rgb7(other + 1e5 * other.grad, plain).mean() > before
