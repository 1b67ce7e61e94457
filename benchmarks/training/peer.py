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
from unveil.models.training.classifier import Classifier, ClassifierSettings, FeatureExtractor
from unveil.models.training.cyclegan import ImagePool

Batch = list[Tensor]
Step = Callable[[Batch], None]


@dataclass
class ReferenceLoop:
    """decks: sets that are shuffled on their own; networks: all, those that do not learn too."""

    step: Step
    networks: Sequence[nn.Module]
    datasets: Sequence[Dataset[Any]]
    batch: int
    after_epoch: Callable[[], None] = lambda: None

    def batches(self, workers: int, device: torch.device) -> Iterator[Batch]:
        """Without end, so that no epoch waits for its first images."""
        cuda = device.type == "cuda"
        loaders = [
            DataLoader(
                dataset, self.batch, sampler=RandomSampler(dataset, replacement=True, num_samples=10**9),
                num_workers=workers, pin_memory=cuda,
            )
            for dataset in self.datasets
        ]  # fmt: skip
        for loaded in zip(*loaders, strict=True):
            yield [part.to(device, non_blocking=cuda) for part in chain(*loaded)]


class Arrays(Dataset[Any]):
    """Images, and labels, that belong together; each image through the transform alone."""

    def __init__(self, *arrays: Any, transforms_after: Sequence[Callable[[Tensor], Tensor]] = ()) -> None:
        self.arrays = arrays
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3), *transforms_after]
        )

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, i: int) -> list[Any]:
        return [self.transform(array[i]) if array.ndim == 4 else int(array[i]) for array in self.arrays]


def regression(
    network: nn.Module, optimizer: Any, loss: Any, protected: Images, plain: Images, batch: int, side: int | None
) -> ReferenceLoop:
    """side: of the squares that are learned from, the same one of both images; None: whole images."""
    optimizer = optimizer(network.parameters())
    crop = transforms.RandomCrop(side or protected.shape[1])

    def step(images: Batch) -> None:
        cropped_protected, cropped_plain = crop(torch.cat(images, 1)).chunk(2, 1)
        value = loss(network(cropped_protected), cropped_plain)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    return ReferenceLoop(step, [network], [Arrays(protected, plain)], batch)


def gan(generator: nn.Module, s: GanSettings, image_groups: Sequence[Images]) -> ReferenceLoop:
    discriminator = PatchDiscriminator(s.discriminator, s.pool)
    adam = partial(torch.optim.Adam, betas=(s.beta1, 0.999))
    generator_optimizer = adam(generator.parameters(), s.rate)
    discriminator_optimizer = adam(discriminator.parameters(), s.discriminator_rate or s.rate)
    bce_to_label = _loss_to_label(F.binary_cross_entropy_with_logits)

    def step(images: Batch) -> None:
        protected, plain = images
        fake = generator(protected)
        discriminator_optimizer.zero_grad()
        (bce_to_label(discriminator(plain), 1) + bce_to_label(discriminator(fake.detach()), 0)).backward()
        discriminator_optimizer.step()
        generator_optimizer.zero_grad()
        bce_to_label(discriminator(fake), 1).backward()
        generator_optimizer.step()

    crop = [transforms.RandomCrop(s.side)] if s.side else []
    return ReferenceLoop(
        step, [generator, discriminator], [Arrays(group, transforms_after=crop) for group in image_groups], s.batch
    )


def cyclegan(s: Any, plain: Images, protected: Images) -> ReferenceLoop:
    """As in the authors' program: the discriminators are frozen in the generators' step."""
    encrypt_net, decrypt_net = ResNetGenerator(s.width, s.blocks), ResNetGenerator(s.width, s.blocks)
    discriminators = nn.ModuleList([PatchGan(s.discriminator), PatchGan(s.discriminator)])
    adam = partial(torch.optim.Adam, lr=s.rate, betas=(s.beta1, 0.999))
    generator_optimizer = adam([*encrypt_net.parameters(), *decrypt_net.parameters()])
    discriminator_optimizer = adam(discriminators.parameters())
    lsgan_to_label, pools, generator = _loss_to_label(F.mse_loss), [ImagePool(), ImagePool()], torch.Generator()

    def step(images: Batch) -> None:
        discriminators.requires_grad_(False)
        fakes = encrypt_net(images[0]), decrypt_net(images[1])
        loss = sum(
            lsgan_to_label(discriminator(fake), 1) for discriminator, fake in zip(discriminators, fakes, strict=True)
        )
        loss += s.cycle * (F.l1_loss(decrypt_net(fakes[0]), images[0]) + F.l1_loss(encrypt_net(fakes[1]), images[1]))
        generator_optimizer.zero_grad()
        loss.backward()
        generator_optimizer.step()
        discriminators.requires_grad_(True)
        discriminator_optimizer.zero_grad()
        for discriminator, real, fake, pool in zip(discriminators, reversed(images), fakes, pools, strict=True):
            (
                (
                    lsgan_to_label(discriminator(real), 1)
                    + lsgan_to_label(discriminator(pool.query(fake.detach(), generator)), 0)
                )
                / 2
            ).backward()
        discriminator_optimizer.step()

    crop = [transforms.RandomCrop(s.side)] if s.side else []
    return ReferenceLoop(
        step,
        [encrypt_net, decrypt_net, discriminators],
        [Arrays(group, transforms_after=crop) for group in (plain, protected)],
        s.batch,
    )


def classification(network: nn.Module, s: ClassifierSettings, images: Images, labels: Any) -> ReferenceLoop:
    optimizer = torch.optim.SGD(network.parameters(), s.rate, s.momentum, weight_decay=s.weight_decay)

    def step(batch: Batch) -> None:
        loss = F.cross_entropy(network(batch[0]), batch[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    extra_transforms = [] if s.padding is None else _flip_and_crop(images, s.padding)
    return ReferenceLoop(step, [network], [Arrays(images, labels, transforms_after=extra_transforms)], s.batch)


def train_transformation(
    s: Any, classifier: Classifier, images: Images, labels: Any, held_out: tuple[Images, Any]
) -> ReferenceLoop:
    network, feature_extractor = SigmoidUNet(s.width, s.fold), FeatureExtractor(classifier)
    crop = transforms.RandomCrop(s.feature_side or images.shape[1])
    optimizer = torch.optim.SGD(network.parameters(), s.rate, s.momentum, weight_decay=s.weight_decay)
    classifier.eval().requires_grad_(False)

    def loss(plain: Tensor, batch_labels: Tensor) -> Tensor:
        output = network(plain)
        output_crop, plain_crop = crop(torch.cat([output, plain], 1)).chunk(2, 1)
        with torch.no_grad():
            plain_crop = feature_extractor(plain_crop)
        return F.cross_entropy(classifier(output), batch_labels) - s.feature_weight * F.mse_loss(
            feature_extractor(output_crop), plain_crop
        )

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        loss(*batch).backward()
        optimizer.step()

    validation = DataLoader(Arrays(*held_out), s.batch)

    @torch.no_grad()
    def validate() -> None:
        network.eval()
        device = next(network.parameters()).device
        for batch in validation:
            loss(*(part.to(device) for part in batch)).item()
        network.train()

    extra_transforms = _flip_and_crop(images, s.padding)
    return ReferenceLoop(
        step, [network, classifier], [Arrays(images, labels, transforms_after=extra_transforms)], s.batch, validate
    )


def block_network(*, output_tanh: bool = False) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 48, 4, 4, bias=False), nn.BatchNorm2d(48), nn.ReLU(inplace=True),
        nn.Conv2d(48, 48, 1, bias=False), nn.BatchNorm2d(48), nn.ReLU(inplace=True),
        nn.Conv2d(48, 512, 1, bias=False), nn.BatchNorm2d(512), nn.ReLU(inplace=True),
        nn.PixelShuffle(4), nn.Conv2d(32, 3, 1), nn.Tanh() if output_tanh else nn.Identity(),
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


def distance(reconstructed: Tensor, plain: Tensor, ssim_weight: float) -> Tensor:
    """Mean absolute error and 1 - SSIM with windows of 7x7."""
    mean = partial(F.avg_pool2d, kernel_size=7, stride=1)
    mx, my = mean(reconstructed), mean(plain)
    vx, vy = mean(reconstructed * reconstructed) - mx * mx, mean(plain * plain) - my * my
    vxy = mean(reconstructed * plain) - mx * my
    c1, c2 = 0.02**2, 0.06**2
    ssim = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return F.l1_loss(reconstructed, plain) + ssim_weight * (1 - ssim.mean())


def _loss_to_label(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, float], Tensor]:
    return lambda scores, label: loss(scores, torch.full_like(scores, label))


def _flip_and_crop(images: Images, padding: int) -> list[Callable[[Tensor], Tensor]]:
    return [transforms.RandomCrop(images.shape[1], padding), transforms.RandomHorizontalFlip()]
