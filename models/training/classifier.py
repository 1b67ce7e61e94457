"""The classifier: frozen in TN-model's training, and the measure of utility and recognition.

network = train_classifier(images, labels, CLASSIFIERS["quick"], context)
accuracy(network, test_images, test_labels, context)  # 0.47
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.models.core import serialization
from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images, check_images
from unveil.models.core.profiles import Profile
from unveil.models.core.run_context import RunContext
from unveil.models.data.image_dataset import Labels
from unveil.models.networks.resnet20 import ResNet20
from unveil.models.networks.tanaka_adaptation import Adaptation
from unveil.models.networks.vgg16_bn import MIN_SIDE, Vgg16Bn
from unveil.models.training.augmentation import flip_and_crop
from unveil.models.training.loop import (
    Precision,
    TrainingConfig,
    TrainingTask,
    cosine,
    step_decay,
    to_model_input,
    train,
)

ClassifierName = Literal["resnet20", "vgg16-bn"]

_MAX_PIXELS_PER_BATCH = 500_000  # in inference


@dataclass(frozen=True)
class ClassifierSettings:
    """Architecture and training of a classifier; the defaults are those of TN-model's authors [C]."""

    network: ClassifierName = "resnet20"
    width: int = 16  # of the first stage of ResNet-20
    shrink: int = 1  # factor by which images are reduced before the network
    by: Literal["mean", "channels"] = "mean"  # how: average, or pixel unshuffle, which loses nothing
    adaptation: int = 0  # width of Tanaka's adaptation network in front; 0: none
    epochs: int = 200
    batch: int = 128
    rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["steps", "cosine"] = "steps"  # steps: times 0.2 after 60, 120 and 160 of 200 epochs
    padding: int | None = 4  # of the random crops, in pixels; half of the images are mirrored; None: no augmentation
    precision: Precision = "auto"


CLASSIFIERS: Mapping[Profile, ClassifierSettings] = {
    "smoke": ClassifierSettings(width=4, shrink=4, epochs=1, batch=16),
    # On 5,000 images of natural96: accuracy 0.64 after 10 epochs (width 12, 6 epochs: 0.53; 2,000 images: 0.34) [M].
    "quick": ClassifierSettings(width=8, shrink=3, epochs=8, batch=32, schedule="cosine"),
    "paper": ClassifierSettings(),
}


class Classifier(nn.Module):
    """Normalisation, reduction and a network: float [N, 3, H, W] in -1..1 -> logits [N, classes].

    The buffers mean and std, [3, 1, 1], hold the statistics of the training images.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, classes: int, settings: ClassifierSettings) -> None:
        super().__init__()
        self.classes, self.settings = classes, settings
        self.downsample_factor, self.downsample_mode = settings.shrink, settings.by
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.register_buffer("std", torch.ones(3, 1, 1))
        self.adaptation = Adaptation(settings.adaptation) if settings.adaptation else None
        inputs = self.adaptation.channels if self.adaptation else 3
        if settings.by == "channels":
            inputs *= settings.shrink**2
        resnet = settings.network == "resnet20"
        self.network = ResNet20(classes, settings.width, inputs) if resnet else Vgg16Bn(classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(
            self.preprocess(F.avg_pool2d(images, self.downsample_factor) if self.downsample_mode == "mean" else images)
        )

    def preprocess(self, images: Tensor) -> Tensor:
        """The input of the network, from images already averaged down or at full size."""
        if self.downsample_mode == "channels" and self.adaptation is None:
            # Normalising after the unshuffle is equivalent and much faster over 48 channels than over 3.
            mean, std = (each.repeat_interleave(self.downsample_factor**2, 0) for each in (self.mean, self.std))
            return (self._pixel_unshuffle(images) - mean) / std
        x = (images - self.mean) / self.std
        return x if self.adaptation is None else self._pixel_unshuffle(self.adaptation(x))

    def _pixel_unshuffle(self, x: Tensor) -> Tensor:
        height, width = (side // self.downsample_factor * self.downsample_factor for side in x.shape[2:])
        return F.pixel_unshuffle(x[:, :, :height, :width], self.downsample_factor)


class FeatureExtractor(nn.Module):
    """The first layers of a classifier, applied to images at full size."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier.network.features(self.classifier.preprocess(images))


class ClassificationTask(TrainingTask):
    """Training task: predict the class of an image."""

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer, padding: int | None) -> None:
        self.networks = nn.ModuleDict({"network": network})
        self.optimizers = [optimizer]
        self.network, self.padding = network, padding

    def step(self, batch: list[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        images, labels = batch
        if self.padding is not None:
            images = flip_and_crop(images, self.padding, generator)
        logits = self.network(to_model_input(images)).float()
        loss = F.cross_entropy(logits, labels)
        self.optimizers[0].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizers[0].step()
        return {"loss": loss.detach(), "accuracy": (logits.argmax(1) == labels).float().mean().detach()}


def train_classifier(images: Images, labels: Labels, settings: ClassifierSettings, context: RunContext) -> Classifier:
    """Train a classifier of images uint8 [N, H, W, 3] with labels from 0 -> in eval mode, on context.device.

    `context.memoize` trains once in an evaluation for equal images, labels, settings and seed. Raises AttackFailed
    (no labels, images too small, a diverging loss) and what `context.report` raises.
    """
    classes = count_classes(images, labels)
    smallest = settings.shrink * (MIN_SIDE if settings.network == "vgg16-bn" else 4)
    if min(images.shape[1:3]) < smallest:
        size = f"{images.shape[2]}x{images.shape[1]}"
        raise AttackFailed(f"the classifier needs images of at least {smallest}x{smallest}; these are {size}")

    def compute() -> bytes:
        return serialization.dump(_train(images, labels, classes, settings, context))

    network = Classifier(classes, settings)
    name = f"classifier/{_cache_key(images, labels, settings, context)}"
    serialization.load_into(network, context.memoize(name, compute))
    return network.to(device=context.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def count_classes(images: Images, labels: Labels) -> int:
    """The number of classes. Raises AttackFailed if labels are missing, negative or of fewer than two classes."""
    check_images(images)
    if len(labels) != len(images) or len(np.unique(labels)) < 2 or labels.min() < 0:
        raise AttackFailed(
            "a classifier needs images with labels of at least two classes; upload the images in class folders"
        )
    return int(labels.max()) + 1


@torch.inference_mode()
def predict(network: nn.Module, images: Images, context: RunContext) -> Labels:
    """The predicted class of each image, int64 [N]; network: in eval mode, on context.device."""
    batch_size = max(1, _MAX_PIXELS_PER_BATCH // (images.shape[1] * images.shape[2]))
    predictions = np.zeros(len(images), np.int64)
    for i in range(0, len(images), batch_size):
        context.report(1.0, f"classifying {i} of {len(images)}")
        logits = network(to_model_input(torch.from_numpy(images[i : i + batch_size]).to(context.device)))
        predictions[i : i + batch_size] = logits.argmax(1).cpu().numpy()
    return predictions


@torch.inference_mode()
def predict_probabilities(network: nn.Module, images: Images, device: str) -> npt.NDArray[np.float32]:
    """Probabilities of the classes of uint8 [N, H, W, 3], float32 [N, classes]; network: in eval mode, on the device.

    Raises ValueError for anything but images.
    """
    check_images(images)
    batch_size = max(1, _MAX_PIXELS_PER_BATCH // (images.shape[1] * images.shape[2]))
    parts = [
        network(to_model_input(torch.from_numpy(np.ascontiguousarray(images[i : i + batch_size])).to(device)))
        for i in range(0, len(images), batch_size)
    ]
    return np.asarray(torch.cat(parts).float().softmax(1).cpu())


def accuracy(network: nn.Module, images: Images, labels: Labels, context: RunContext) -> float:
    """The share of images whose class the network predicts correctly, in 0..1."""
    return float((predict(network, images, context) == labels).mean())


def _train(
    images: Images, labels: Labels, classes: int, settings: ClassifierSettings, context: RunContext
) -> Classifier:
    def make_task() -> ClassificationTask:
        network = Classifier(classes, settings)
        pixels = images.reshape(-1, 3)[:: max(1, images.size // 3_000_000)] / 127.5 - 1
        network.mean.copy_(torch.from_numpy(pixels.mean(0)).view(3, 1, 1))
        network.std.copy_(torch.from_numpy(pixels.std(0)).clamp(min=0.01).view(3, 1, 1))  # flat images
        optimizer = torch.optim.SGD(
            network.parameters(), settings.rate, settings.momentum, weight_decay=settings.weight_decay, fused=True
        )
        return ClassificationTask(network, optimizer, settings.padding)

    schedule = step_decay(0.3, 0.6, 0.8, factor=0.2) if settings.schedule == "steps" else cosine
    config = TrainingConfig(
        "classifier", settings.epochs, settings.batch, schedule, repr(settings), settings.precision,
        min_batch_size=settings.batch,  # a note would not reach the cells that share the classifier
    )  # fmt: skip
    task, _ = train(make_task, [[images, labels]], config, context)
    return task.networks["network"]  # type: ignore[return-value]


def _cache_key(images: Images, labels: Labels, settings: ClassifierSettings, context: RunContext) -> str:
    arrays = [(array.shape, zlib.crc32(np.ascontiguousarray(array).data)) for array in (images, labels)]
    return hashlib.sha256(f"{settings} {arrays} {context.seed}".encode()).hexdigest()[:32]
