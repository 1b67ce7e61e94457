from functools import partial

import pytest
import torch

from tests.models.sample_images import photographs
from unveil.models.core.run_context import RunContext
from unveil.models.networks.resnet_generator import PatchGan, ResNetGenerator, cyclegan_init
from unveil.models.training.cyclegan import POOL_SIZE, CycleGanTask, ImagePool
from unveil.models.training.loop import TrainingConfig, constant, train


def make_task(width=4, blocks=1):
    return CycleGanTask(
        lambda: ResNetGenerator(width, blocks).apply(cyclegan_init),
        lambda: PatchGan(4).apply(cyclegan_init),
        partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999)),
        cycle_weight=10.0,
        side=24,
        multiple=4,
    )


def test_the_networks_have_the_published_shapes():
    generator, discriminator = ResNetGenerator().eval(), PatchGan().eval()
    assert sum(p.numel() for p in generator.parameters()) == 7_833_987  # without biases that norms cancel
    assert sum(p.numel() for p in discriminator.parameters()) == 2_763_841
    with torch.inference_mode():
        assert generator(torch.zeros(1, 3, 32, 44)).shape == (1, 3, 32, 44)
        assert discriminator(torch.zeros(1, 3, 96, 96)).shape == (1, 1, 10, 10)


def test_the_receptive_field_of_a_discriminator_score_is_70_pixels():
    image = torch.rand(1, 3, 128, 128, requires_grad=True)
    layers = [layer for layer in PatchGan(4).layers if not isinstance(layer, torch.nn.InstanceNorm2d)]
    torch.nn.Sequential(*layers)(image)[0, 0, 7, 7].backward()
    rows = image.grad[0].abs().sum((0, 2)).nonzero()
    assert rows.max() - rows.min() + 1 == 70


def test_golden_losses():
    """At the paper's learning rate, at which rounding on another CPU changes less than the fifth digit."""
    curve: dict[str, list[float]] = {}
    config = TrainingConfig("cycle", 2, 4, constant, precision="fp32")
    context = RunContext(seed=1, metric=lambda name, step, value: curve.setdefault(name, []).append(value))
    train(make_task, [[photographs(12, 32, 32)], [255 - photographs(12, 32, 32)]], config, context)
    assert curve["loss"] == pytest.approx(GOLDEN["loss"], rel=1e-4)
    assert curve["cycle_loss"] == pytest.approx(GOLDEN["cycle_loss"], rel=1e-4)
    assert curve["discriminator_loss"] == pytest.approx(GOLDEN["discriminator_loss"], rel=1e-4)


def test_flat_images_keep_the_weights_finite():
    torch.manual_seed(0)
    learning, white = make_task(16, 3), torch.full((4, 32, 32, 3), 255, dtype=torch.uint8)
    others = torch.from_numpy(photographs(4, 32, 32))
    for step in range(3):
        learning.step([white, others if step else white], torch.Generator().manual_seed(step))
    assert all(weight.isfinite().all() for weight in learning.networks.parameters())


GOLDEN = {"loss": [1.89657, 1.40756], "cycle_loss": [0.84089, 0.8324], "discriminator_loss": [0.86526, 0.69182]}


def test_the_image_pool_returns_old_images_half_of_the_time_and_keeps_its_size():
    pool, generator = ImagePool(), torch.Generator().manual_seed(0)
    shown_count, fresh = 0, 0
    for start in range(0, 400, 8):
        new = torch.arange(start, start + 8.0).view(-1, 1, 1, 1)
        out = pool.query(new, generator)
        assert out.shape == new.shape
        assert len(pool.images) == min(start + 8, POOL_SIZE)
        assert len(pool.images.unique()) == len(pool.images)
        if start >= POOL_SIZE:
            shown_count += 8
            fresh += int((out == new).sum())
    assert 0.4 < fresh / shown_count < 0.6
