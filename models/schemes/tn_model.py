"""TN-model: a transformation network trained with a classifier (paper section 2.4; settings of the authors [C])."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from unveil.models.core.cost import training_core_seconds
from unveil.models.core.errors import AttackFailed
from unveil.models.core.run_context import RunContext
from unveil.models.core.settings_schema import parse, setting
from unveil.models.data.image_dataset import ImageDataset
from unveil.models.schemes.base import PaperRow, TrainedKey
from unveil.models.schemes.network import NetworkScheme, build_provenance

if TYPE_CHECKING:
    from torch import nn

    from unveil.models.training.classifier import Classifier, ClassifierSettings

_PAPER = PaperRow(
    {"fr": 0.0263, "itn": 0.3142, "gan": 0.0793},
    {"fr": True, "itn": True, "gan": True},
    training=False,
    cost="High",
)
_VALIDATION_INTERVAL = 10  # every tenth image is held out to choose the checkpoint [R]
MIN_TRAINING_IMAGES = 20


@dataclass(frozen=True)
class TnModelSettings:
    """The training of a key; a trained key stores the settings of its training."""

    images: int | None = setting(None, "Training images; null: all", minimum=MIN_TRAINING_IMAGES, maximum=1_000_000)
    width: int = setting(64, "First width of the U-Net", minimum=1, maximum=256)
    fold: int = setting(
        1, "Factor of the pixel unshuffle before the U-Net and the pixel shuffle after it",
        minimum=1, maximum=8,
    )  # fmt: skip
    epochs: int = setting(200, "Passes over the training images", minimum=1, maximum=100_000)
    batch: int = setting(128, "Images per step", minimum=1, maximum=4096)
    rate: float = setting(0.1, "Learning rate", minimum=1e-6, maximum=100)
    schedule: Literal["steps", "cosine"] = setting("steps", "steps: rate times 0.2 after 60, 120 and 160 of 200 epochs")
    momentum: float = setting(0.9, "Momentum of SGD", minimum=0, maximum=0.999)
    weight_decay: float = setting(5e-4, "Weight decay of SGD", minimum=0, maximum=1)
    padding: int = setting(4, "Padding of random crops in pixels; half the images are mirrored", minimum=0, maximum=32)
    feature_weight: float = setting(0.01, "Weight of the feature distance", minimum=0, maximum=1000)
    feature_side: int | None = setting(
        None, "Side of the square crops whose features are compared; null: whole images", minimum=16, maximum=4096
    )
    features: Literal["auto", "vgg16", "classifier"] = setting(
        "auto", "Feature extractor: VGG-16 of ImageNet, or the classifier; auto: VGG-16 if its weights are available"
    )
    classifier: Literal["resnet20", "vgg16-bn"] = setting("resnet20", "The frozen classifier of plain images")
    classifier_width: int = setting(16, "First width of ResNet-20", minimum=1, maximum=256)
    classifier_shrink: int = setting(1, "Averaging factor before the classifier", minimum=1, maximum=16)
    classifier_epochs: int = setting(200, "Passes in the training of the classifier", minimum=1, maximum=100_000)
    classifier_batch: int = setting(128, "Images a step of the classifier", minimum=1, maximum=4096)
    precision: Literal["auto", "fp32", "bf16"] = setting("auto", "auto: bfloat16 if the device supports it natively")


class TnModel(NetworkScheme[TnModelSettings]):
    """A U-Net h, trained so that a frozen classifier of plain images still classifies h(x), whose features move from x.

    The loss is the classifier's cross-entropy minus 0.01 times the squared distance of early VGG-16 features. The
    protected images serve this classifier only: other models cannot be trained on them.
    """

    name = "tn-model"
    title = "TN-model"
    source = "paper section 2.4"
    Settings = TnModelSettings
    bound_to_classifier = (
        "its images serve only the classifier that its key was trained with: no other model can be trained on them "
        "(paper section 2.4)"
    )
    paper_name = "TN-model"
    paper_position = 3
    tile_margin = 128  # the receptive field reaches 122 pixels, so tiles join without a seam
    profiles: ClassVar = {
        "smoke": {
            "images": 64, "width": 4, "epochs": 2, "batch": 16, "features": "classifier",
            "classifier_width": 4, "classifier_shrink": 4, "classifier_epochs": 1, "classifier_batch": 16,
        },
        "quick": {
            "images": 5000, "width": 16, "fold": 3, "epochs": 2, "batch": 32, "schedule": "cosine",
            "feature_weight": 0.05, "feature_side": 48, "features": "classifier",
            "classifier_width": 8, "classifier_shrink": 3, "classifier_epochs": 8, "classifier_batch": 32,
        },
    }  # fmt: skip

    @property
    def paper(self) -> PaperRow:
        return _PAPER

    @property
    def unshuffle_factor(self) -> int:
        return self.settings.fold

    def build_network(self) -> nn.Module:
        from unveil.models.networks.unet import SigmoidUNet

        return SigmoidUNet(self.settings.width, self.unshuffle_factor)

    def untrainable_reason(self, count: int, height: int, width: int, classes: int) -> str | None:  # noqa: ARG002
        if count < MIN_TRAINING_IMAGES:
            return f"TN-model needs at least {MIN_TRAINING_IMAGES} images; there are {count}"
        if classes < 2:
            return "TN-model needs a classifier and labels of at least two classes: upload the images in class folders"
        return None

    def training_core_seconds(self, images: int, height: int, width: int) -> float:
        s, images, pixels = self.settings, min(images, self.settings.images or images), height * width
        classifier_pixels = pixels // s.classifier_shrink**2
        classifier = training_core_seconds(
            images, s.classifier_epochs, classifier_pixels, 1 / 106, s.classifier_width / 16
        )
        return classifier + training_core_seconds(images, s.epochs, pixels // s.fold**2, 1 / 5.8, s.width / 64)

    def train(self, data: ImageDataset, context: RunContext) -> TrainedKey:
        import torch

        from unveil.models.training.classifier import train_classifier
        from unveil.models.training.loop import TrainingConfig, cosine, step_decay, train
        from unveil.models.training.objectives import TransformationTask

        started_at, s = time.monotonic(), self.settings
        images, labels = data.train[: s.images], data.train_labels[: s.images]
        reason = self.untrainable_reason(len(images), images.shape[1], images.shape[2], len(data.classes))
        if reason:
            raise AttackFailed(reason)
        classifier = train_classifier(images, labels, self.classifier_settings(), context.scoped("classifier", 0, 0.4))
        feature_extractor, feature_source = self._feature_extractor(classifier)
        held_out = np.arange(len(images)) % _VALIDATION_INTERVAL == _VALIDATION_INTERVAL - 1

        def make_task() -> TransformationTask:
            network = self.build_network()
            optimizer = torch.optim.SGD(
                network.parameters(), s.rate, s.momentum, weight_decay=s.weight_decay, fused=True
            )
            validation_set = images[held_out], labels[held_out]
            return TransformationTask(
                network,
                optimizer,
                classifier,
                feature_extractor,
                s.feature_weight,
                s.padding,
                validation_set,
                s.feature_side,
            )

        lr_schedule = step_decay(0.3, 0.6, 0.8, factor=0.2) if s.schedule == "steps" else cosine
        config = TrainingConfig(self.name, s.epochs, s.batch, lr_schedule, f"{s} {feature_source}", s.precision)
        task, notes = train(
            make_task, [[images[~held_out], labels[~held_out]]], config, context.scoped("network", 0.4, 0.95)
        )
        network = task.best_network()
        secret = self.pack_weights(
            network, {"classes": json.dumps(data.classes), "outputs": str(classifier.classes)}, judge=classifier
        )
        return TrainedKey(secret, {
            "data": data.name, "images": {"train": int((~held_out).sum()), "held_out": int(held_out.sum())},
            "settings": vars(s), "features": feature_source, "best_epoch": task.best_epoch,
            "reached": {"validation_loss": task.best_loss}, **build_provenance(self, secret, data, context, classifier),
            "seconds": round(time.monotonic() - started_at, 1), "notes": [*notes, *data.notes],
        })  # fmt: skip

    def bundled_classifier(self, secret: bytes, data: ImageDataset) -> Classifier:
        from unveil.models.core import serialization
        from unveil.models.training.classifier import Classifier

        body, metadata = self.unpack_weights(secret)
        classes = json.loads(metadata["classes"])
        if classes != list(data.classes):
            raise AttackFailed(
                f"the classifier of this key has the classes {', '.join(classes)}; {data.name} has others"
            )
        settings = TnModel(parse(TnModelSettings, json.loads(metadata["settings"]))).classifier_settings()
        network = Classifier(int(metadata["outputs"]), settings)
        serialization.load_into(network, body, "judge")
        return network.eval()

    def classifier_settings(self) -> ClassifierSettings:
        """The settings of the classifier that is trained with the key."""
        from unveil.models.training.classifier import ClassifierSettings

        s = self.settings
        return ClassifierSettings(
            network=s.classifier, width=s.classifier_width, shrink=s.classifier_shrink, epochs=s.classifier_epochs,
            batch=s.classifier_batch, schedule=s.schedule, padding=s.padding, precision=s.precision,
        )  # fmt: skip

    def _feature_extractor(self, classifier: Classifier) -> tuple[nn.Module, str]:
        """The feature extractor and its description for the provenance. Raises AttackFailed."""
        from unveil.models.networks.vgg_features import VggFeatures, WeightsMissing
        from unveil.models.training.classifier import FeatureExtractor

        if self.settings.features != "classifier":
            try:
                return VggFeatures(), "VGG-16 features[:9], torchvision's ImageNet weights"
            except WeightsMissing as error:
                if self.settings.features == "vgg16":
                    raise AttackFailed(str(error)) from error
        description = "first layers of the plain classifier (instead of VGG-16 trained on ImageNet)"
        return FeatureExtractor(classifier), description
