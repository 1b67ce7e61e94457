"""TN-model: a transformation network trained with a model (paper section 2.4; settings of its authors' program [C])."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from unveil.models.core.errors import AttackFailed
from unveil.models.core.run_context import Context
from unveil.models.core.settings_schema import param, parse
from unveil.models.data.datasets import Data
from unveil.models.schemes.base import PaperRow, Trained
from unveil.models.schemes.network import NetworkScheme, record

if TYPE_CHECKING:
    from torch import nn

    from unveil.models.training.classifier import Classifier, ClassifierSettings

_PAPER = PaperRow(
    {"fr": 0.0263, "itn": 0.3142, "gan": 0.0793},
    {"fr": True, "itn": True, "gan": True},
    training=False,
    cost="High",
)
_HELD_OUT = 10  # every tenth image is held out to choose the checkpoint [R]
FEWEST = 20


@dataclass(frozen=True)
class TnModelSettings:
    """How a key is trained. A trained key brings its own."""

    images: int | None = param(None, "Training images; null: all", minimum=FEWEST)
    width: int = param(64, "First width of the U-Net", minimum=1, maximum=256)
    fold: int = param(
        1, "U-Net: the pixels of a square of this side become channels first, and pixels again at the end",
        minimum=1, maximum=8,
    )  # fmt: skip
    epochs: int = param(200, "Passes over the training images", minimum=1, maximum=100_000)
    batch: int = param(128, "Images a step", minimum=1, maximum=4096)
    rate: float = param(0.1, "Learning rate", minimum=1e-6, maximum=100)
    schedule: Literal["steps", "cosine"] = param("steps", "steps: a fifth of the rate after 60, 120, 160 of 200 epochs")
    momentum: float = param(0.9, "Of the gradient descent", minimum=0, maximum=0.999)
    weight_decay: float = param(5e-4, "Of the gradient descent", minimum=0, maximum=1)
    padding: int = param(4, "Of the random crops, in pixels; half of the images are mirrored", minimum=0, maximum=32)
    feature_weight: float = param(0.01, "Weight of the distance of features", minimum=0, maximum=1000)
    feature_side: int | None = param(
        None, "Side of the squares whose features are compared; null: whole images", minimum=16, maximum=4096
    )
    features: Literal["auto", "vgg16", "classifier"] = param(
        "auto", "Whose features: VGG-16's trained on ImageNet; auto: the plain classifier's where those cannot be had"
    )
    classifier: Literal["resnet20", "vgg16-bn"] = param("resnet20", "The plain classifier that must still see")
    classifier_width: int = param(16, "First width of ResNet-20", minimum=1, maximum=256)
    classifier_shrink: int = param(1, "Images are averaged down by this before the classifier", minimum=1, maximum=16)
    classifier_epochs: int = param(200, "Passes over the training images", minimum=1, maximum=100_000)
    classifier_batch: int = param(128, "Images a step", minimum=1, maximum=4096)
    precision: Literal["auto", "fp32", "bf16"] = param("auto", "auto: bfloat16 where the device computes in it")


class TnModel(NetworkScheme[TnModelSettings]):
    """A U-Net h trained so that a plain classifier, frozen, still names the class of h(x), far from x in features.

    Loss: cross-entropy of the classifier - 0.01 * squared distance of early VGG-16 features. It protects what that
    classifier is to see: other models cannot be trained on its images.
    """

    name = "tn-model"
    title = "TN-model"
    source = "paper section 2.4"
    Settings = TnModelSettings
    only_for = (
        "its images are made for the classifier that its key was trained with: no other model can be trained on them "
        "(paper section 2.4)"
    )
    paper_name = "TN-model"
    margin = 128  # more than 122 pixels away nothing matters: tiles join without a seam
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
    def fold(self) -> int:
        return self.settings.fold

    def network(self) -> nn.Module:
        from unveil.models.networks.unet import SigmoidUNet

        return SigmoidUNet(self.settings.width, self.fold)

    def refuses_to_learn(self, count: int, height: int, width: int, classes: int) -> str | None:  # noqa: ARG002
        if count < FEWEST:
            return f"TN-model learns from at least {FEWEST} images; there are {count}"
        if classes < 2:
            return "TN-model needs a classifier, so labels of at least two classes: upload the images in class folders"
        return None

    def train(self, data: Data, context: Context) -> Trained:
        import torch

        from unveil.models.training.classifier import train_classifier
        from unveil.models.training.loop import Plan, cosine, drops, train
        from unveil.models.training.objectives import Concealment

        began, s = time.monotonic(), self.settings
        images, labels = data.train[: s.images], data.train_labels[: s.images]
        refusal = self.refuses_to_learn(len(images), images.shape[1], images.shape[2], len(data.classes))
        if refusal:
            raise AttackFailed(refusal)
        judge = train_classifier(images, labels, self.classifier(), context.part("classifier", 0, 0.4))
        eye, whose = self._eye(judge)
        held_out = np.arange(len(images)) % _HELD_OUT == _HELD_OUT - 1

        def make() -> Concealment:
            network = self.network()
            optimiser = torch.optim.SGD(
                network.parameters(), s.rate, s.momentum, weight_decay=s.weight_decay, fused=True
            )
            kept_back = images[held_out], labels[held_out]
            return Concealment(network, optimiser, judge, eye, s.feature_weight, s.padding, kept_back, s.feature_side)

        schedule = drops(0.3, 0.6, 0.8, factor=0.2) if s.schedule == "steps" else cosine
        plan = Plan(self.name, s.epochs, s.batch, schedule, f"{s} {whose}", s.precision)
        lesson, notes = train(make, [[images[~held_out], labels[~held_out]]], plan, context.part("network", 0.4, 0.95))
        network = lesson.best_network()
        secret = self.sealed(network, {"classes": json.dumps(data.classes), "outputs": str(judge.classes)}, judge=judge)
        return Trained(secret, {
            "data": data.name, "images": {"train": int((~held_out).sum()), "held_out": int(held_out.sum())},
            "settings": vars(s), "features": whose, "best_epoch": lesson.best_epoch,
            "reached": {"validation_loss": lesson.best_loss}, **record(self, secret, data, context, judge),
            "seconds": round(time.monotonic() - began, 1), "notes": [*notes, *data.notes],
        })  # fmt: skip

    def judge(self, secret: bytes, data: Data) -> Classifier:
        from unveil.models.core import serialization
        from unveil.models.training.classifier import Classifier

        body, words = self.opened(secret)
        classes = json.loads(words["classes"])
        if classes != list(data.classes):
            raise AttackFailed(
                f"the classifier of this key tells {', '.join(classes)} apart; {data.name} has other classes"
            )
        settings = TnModel(parse(TnModelSettings, json.loads(words["settings"]))).classifier()
        network = Classifier(int(words["outputs"]), settings)
        serialization.fill(network, body, "judge")
        return network.eval()

    def classifier(self) -> ClassifierSettings:
        """How the plain classifier is trained."""
        from unveil.models.training.classifier import ClassifierSettings

        s = self.settings
        return ClassifierSettings(
            network=s.classifier, width=s.classifier_width, shrink=s.classifier_shrink, epochs=s.classifier_epochs,
            batch=s.classifier_batch, schedule=s.schedule, padding=s.padding, precision=s.precision,
        )  # fmt: skip

    def _eye(self, judge: Classifier) -> tuple[nn.Module, str]:
        """Whose features must differ, and a word on it for the key's record. Raises AttackFailed."""
        from unveil.models.networks.vgg_features import VggFeatures, WeightsMissing
        from unveil.models.training.classifier import Features

        if self.settings.features != "classifier":
            try:
                return VggFeatures(), "VGG-16 features[:9], torchvision's ImageNet weights"
            except WeightsMissing as error:
                if self.settings.features == "vgg16":
                    raise AttackFailed(str(error)) from error
        return Features(judge), "first layers of the plain classifier (instead of VGG-16 trained on ImageNet)"
