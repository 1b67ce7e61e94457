"""The peer: eager PyTorch over a DataLoader, as its documentation writes it, with the paper's layers as they stand.

Networks that ours takes apart for speed are here in plain form: block networks as convolutions and a pixel shuffle,
locally connected layers as one einsum, SSIM by average pooling. The others are the product's own modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

from unveil.models.attacks.gan import GanSettings
from unveil.models.core.images import Images
from unveil.models.networks.patch_discriminator import PatchDiscriminator
from unveil.models.networks.resnet20 import ResNet20
from unveil.models.networks.resnet_generator import PatchGan, ResNetGenerator
from unveil.models.networks.unet import SigmoidUNet
from unveil.models.training.classifier import Classifier, ClassifierSettings, Features
from unveil.models.training.cyclegan import History

Batch = list[Tensor]
Step = Callable[[Batch], None]


@dataclass
class Peer:
    """decks: sets that are shuffled on their own; networks: all, those that do not learn too."""

    step: Step
    networks: Sequence[nn.Module]
    decks: Sequence[Dataset[Any]]
    batch: int
    after_epoch: Callable[[], None] = lambda: None

    def batches(self, workers: int, device: torch.device) -> Iterator[Batch]:
        """Without end, so that no epoch waits for its first images."""
        cuda = device.type == "cuda"
        loaders = [
            DataLoader(
                deck, self.batch, sampler=RandomSampler(deck, replacement=True, num_samples=10**9),
                num_workers=workers, pin_memory=cuda,
            )
            for deck in self.decks
        ]  # fmt: skip
        for loaded in zip(*loaders, strict=True):
            yield [part.to(device, non_blocking=cuda) for part in chain(*loaded)]


class Arrays(Dataset[Any]):
    """Images, and labels, that belong together; each image through the transform alone."""

    def __init__(self, *arrays: Any, more: Sequence[Callable[[Tensor], Tensor]] = ()) -> None:
        self.arrays = arrays
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3), *more])

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, i: int) -> list[Any]:
        return [self.transform(array[i]) if array.ndim == 4 else int(array[i]) for array in self.arrays]


def regression(
    network: nn.Module, optimiser: Any, loss: Any, protected: Images, plain: Images, batch: int, side: int | None
) -> Peer:
    """side: of the squares that are learned from, the same one of both images; None: whole images."""
    optimiser = optimiser(network.parameters())
    crop = transforms.RandomCrop(side or protected.shape[1])

    def step(images: Batch) -> None:
        seen, wanted = crop(torch.cat(images, 1)).chunk(2, 1)
        value = loss(network(seen), wanted)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()

    return Peer(step, [network], [Arrays(protected, plain)], batch)


def gan(generator: nn.Module, s: GanSettings, decks: Sequence[Images]) -> Peer:
    discriminator = PatchDiscriminator(s.discriminator, s.pool)
    adam = partial(torch.optim.Adam, betas=(s.beta1, 0.999))
    for_generator = adam(generator.parameters(), s.rate)
    for_discriminator = adam(discriminator.parameters(), s.discriminator_rate or s.rate)
    says = _says(F.binary_cross_entropy_with_logits)

    def step(images: Batch) -> None:
        protected, plain = images
        fake = generator(protected)
        for_discriminator.zero_grad()
        (says(discriminator(plain), 1) + says(discriminator(fake.detach()), 0)).backward()
        for_discriminator.step()
        for_generator.zero_grad()
        says(discriminator(fake), 1).backward()
        for_generator.step()

    crop = [transforms.RandomCrop(s.side)] if s.side else []
    return Peer(step, [generator, discriminator], [Arrays(deck, more=crop) for deck in decks], s.batch)


def cyclegan(s: Any, plain: Images, protected: Images) -> Peer:
    """As its authors' program: judges held still in the generators' step."""
    protect, reveal = ResNetGenerator(s.width, s.blocks), ResNetGenerator(s.width, s.blocks)
    judges = nn.ModuleList([PatchGan(s.discriminator), PatchGan(s.discriminator)])
    adam = partial(torch.optim.Adam, lr=s.rate, betas=(s.beta1, 0.999))
    for_generators = adam([*protect.parameters(), *reveal.parameters()])
    for_judges = adam(judges.parameters())
    says, pools, generator = _says(F.mse_loss), [History(), History()], torch.Generator()

    def step(images: Batch) -> None:
        judges.requires_grad_(False)
        fakes = protect(images[0]), reveal(images[1])
        loss = sum(says(judge(fake), 1) for judge, fake in zip(judges, fakes, strict=True))
        loss += s.cycle * (F.l1_loss(reveal(fakes[0]), images[0]) + F.l1_loss(protect(fakes[1]), images[1]))
        for_generators.zero_grad()
        loss.backward()
        for_generators.step()
        judges.requires_grad_(True)
        for_judges.zero_grad()
        for judge, real, fake, pool in zip(judges, reversed(images), fakes, pools, strict=True):
            ((says(judge(real), 1) + says(judge(pool.exchange(fake.detach(), generator)), 0)) / 2).backward()
        for_judges.step()

    crop = [transforms.RandomCrop(s.side)] if s.side else []
    return Peer(step, [protect, reveal, judges], [Arrays(deck, more=crop) for deck in (plain, protected)], s.batch)


def classification(network: nn.Module, s: ClassifierSettings, images: Images, labels: Any) -> Peer:
    optimiser = torch.optim.SGD(network.parameters(), s.rate, s.momentum, weight_decay=s.weight_decay)

    def step(batch: Batch) -> None:
        loss = F.cross_entropy(network(batch[0]), batch[1])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    more = [] if s.padding is None else _flip_and_crop(images, s.padding)
    return Peer(step, [network], [Arrays(images, labels, more=more)], s.batch)


def concealment(s: Any, judge: Classifier, images: Images, labels: Any, held_out: tuple[Images, Any]) -> Peer:
    network, eye = SigmoidUNet(s.width, s.fold), Features(judge)
    crop = transforms.RandomCrop(s.feature_side or images.shape[1])
    optimiser = torch.optim.SGD(network.parameters(), s.rate, s.momentum, weight_decay=s.weight_decay)
    judge.eval().requires_grad_(False)

    def loss(plain: Tensor, named: Tensor) -> Tensor:
        hidden = network(plain)
        looked_at, before = crop(torch.cat([hidden, plain], 1)).chunk(2, 1)
        with torch.no_grad():
            before = eye(before)
        return F.cross_entropy(judge(hidden), named) - s.feature_weight * F.mse_loss(eye(looked_at), before)

    def step(batch: Batch) -> None:
        optimiser.zero_grad()
        loss(*batch).backward()
        optimiser.step()

    validation = DataLoader(Arrays(*held_out), s.batch)

    @torch.no_grad()
    def validate() -> None:
        network.eval()
        device = next(network.parameters()).device
        for batch in validation:
            loss(*(part.to(device) for part in batch)).item()
        network.train()

    more = _flip_and_crop(images, s.padding)
    return Peer(step, [network, judge], [Arrays(images, labels, more=more)], s.batch, validate)


def block_network(*, squash: bool = False) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 48, 4, 4, bias=False), nn.BatchNorm2d(48), nn.ReLU(inplace=True),
        nn.Conv2d(48, 48, 1, bias=False), nn.BatchNorm2d(48), nn.ReLU(inplace=True),
        nn.Conv2d(48, 512, 1, bias=False), nn.BatchNorm2d(512), nn.ReLU(inplace=True),
        nn.PixelShuffle(4), nn.Conv2d(32, 3, 1), nn.Tanh() if squash else nn.Identity(),
    )  # fmt: skip


class LocallyConnected(nn.Module):
    """1x1 with weights of each pixel's own: [N, inputs, H, W] -> [N, outputs, H, W]."""

    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(side, side, inputs, outputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.zeros(outputs, side, side))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nihw,hwio->nohw", x, self.weight) + self.bias


def pixelwise_inverse(channels: int, side: int) -> nn.Module:
    return nn.Sequential(
        LocallyConnected(3, channels, side), nn.BatchNorm2d(channels, affine=False), nn.ReLU(inplace=True),
        LocallyConnected(channels, channels, side), nn.BatchNorm2d(channels, affine=False), nn.ReLU(inplace=True),
        LocallyConnected(channels, 3, side),
    )  # fmt: skip


class NibbleLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.shuffle = nn.Conv2d(6, 48, 4, 4), nn.PixelShuffle(4)

    def forward(self, images: Tensor) -> Tensor:
        values = ((images + 1) * 127.5).round()
        upper = torch.floor(values / 16)
        return self.shuffle(self.convolution(torch.cat([values - 16 * upper, upper], 1) / 7.5 - 1))


class Adaptation(nn.Sequential):
    def __init__(self, wide: int) -> None:
        super().__init__(
            nn.Conv2d(3, 48, 4, 4), nn.ReLU(inplace=True), nn.BatchNorm2d(48),
            nn.Conv2d(48, 48, 1), nn.ReLU(inplace=True), nn.BatchNorm2d(48),
            nn.Conv2d(48, wide, 1), nn.PixelShuffle(4),
        )  # fmt: skip


def adapted_classifier(classes: int, s: ClassifierSettings) -> nn.Module:
    return nn.Sequential(
        Adaptation(s.adaptation), nn.PixelUnshuffle(s.shrink),
        ResNet20(classes, s.width, s.adaptation // 16 * s.shrink**2),
    )  # fmt: skip


def distance(seen: Tensor, plain: Tensor, ssim_weight: float) -> Tensor:
    """Mean absolute error and 1 - SSIM with windows of 7x7."""
    mean = partial(F.avg_pool2d, kernel_size=7, stride=1)
    mx, my = mean(seen), mean(plain)
    vx, vy = mean(seen * seen) - mx * mx, mean(plain * plain) - my * my
    vxy = mean(seen * plain) - mx * my
    c1, c2 = 0.02**2, 0.06**2
    ssim = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return F.l1_loss(seen, plain) + ssim_weight * (1 - ssim.mean())


def _says(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, float], Tensor]:
    return lambda scores, label: loss(scores, torch.full_like(scores, label))


def _flip_and_crop(images: Images, padding: int) -> list[Callable[[Tensor], Tensor]]:
    return [transforms.RandomCrop(images.shape[1], padding), transforms.RandomHorizontalFlip()]
