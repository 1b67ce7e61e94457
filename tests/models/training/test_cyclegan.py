import copy
from functools import partial

import pytest
import torch

from tests.models.sample_images import photographs
from unveil.models.networks.resnet_generator import PatchGan, ResNetGenerator, cyclegan_init
from unveil.models.training.augmentation import random_square_crop
from unveil.models.training.cyclegan import POOL_SIZE, CycleGanTask, ImagePool, dither
from unveil.models.training.loop import to_model_input

ADAM = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))


def make_task(width=4, blocks=1, optimizer=ADAM):
    return CycleGanTask(
        lambda: ResNetGenerator(width, blocks).apply(cyclegan_init),
        lambda: PatchGan(4).apply(cyclegan_init),
        optimizer,
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


def test_losses_match_a_plain_implementation_of_the_paper():
    """Zhu et al. 2017, equation 3: one network and one batch at a time, on the same crops.

    With plain gradient descent: Adam divides by gradients near zero, which turns rounding into steps of full size.
    """
    descent = partial(torch.optim.SGD, lr=0.001)
    torch.manual_seed(1)
    task = make_task(optimizer=descent)
    encrypt, decrypt, *discriminators = copy.deepcopy(list(task.networks.values()))
    generator_descent = descent([*encrypt.parameters(), *decrypt.parameters()])
    discriminator_weights = [weight for network in discriminators for weight in network.parameters()]
    discriminator_descent = descent(discriminator_weights)
    batches = [torch.from_numpy(photographs(4, 32, 32)), 255 - torch.from_numpy(photographs(4, 32, 32))]

    for seed in range(3):
        drawing = torch.Generator().manual_seed(seed)
        plain, protected = (
            dither(to_model_input(random_square_crop(batch, 24, 4, drawing)), drawing) for batch in batches
        )
        fakes = [encrypt(plain), decrypt(protected)]
        adversarial = sum(((score(fake) - 1) ** 2).mean() for score, fake in zip(discriminators, fakes, strict=True))
        cycle = (decrypt(fakes[0]) - plain).abs().mean() + (encrypt(fakes[1]) - protected).abs().mean()
        generator_descent.zero_grad()
        (adversarial + 10 * cycle).backward()
        generator_descent.step()
        discriminator_descent.zero_grad()
        discriminator = sum(
            ((score(real) - 1) ** 2).mean() / 2 + (score(fake.detach()) ** 2).mean() / 2
            for score, real, fake in zip(discriminators, [protected, plain], fakes, strict=True)
        )
        discriminator.backward()
        discriminator_descent.step()

        losses = task.step(list(batches), torch.Generator().manual_seed(seed))
        assert losses["loss"].item() == pytest.approx(adversarial.item(), rel=1e-3)
        assert losses["cycle_loss"].item() == pytest.approx(cycle.item(), rel=1e-3)
        assert losses["discriminator_loss"].item() == pytest.approx(discriminator.item(), rel=1e-3)


def test_flat_images_keep_the_weights_finite():
    torch.manual_seed(0)
    learning, white = make_task(16, 3), torch.full((4, 32, 32, 3), 255, dtype=torch.uint8)
    others = torch.from_numpy(photographs(4, 32, 32))
    for step in range(3):
        learning.step([white, others if step else white], torch.Generator().manual_seed(step))
    assert all(weight.isfinite().all() for weight in learning.networks.parameters())


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
