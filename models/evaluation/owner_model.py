"""The owner's classifier of protected images, which an attacker with the capability `model` may query."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images
from unveil.models.core.run_context import RunContext
from unveil.models.schemes.base import Scheme

OwnerModel = Callable[[Images], npt.NDArray[np.float32]]


def train_owner_model(
    scheme: Scheme[Any, Any] | None, protected: Images, labels: npt.NDArray[np.int64] | None, context: RunContext
) -> OwnerModel:
    """Train on protected images uint8 [N, H, W, 3] -> a function from such images to class probabilities [M, classes].

    The classifier is the one of the profile `quick` in every profile: an attacker queries it and does not judge it.
    Raises AttackFailed without labels of at least two classes, Cancelled.
    """
    if labels is None:
        raise AttackFailed("the owner's classifier needs images with labels; upload the images in class folders")
    from unveil.models.evaluation.utility_classifiers import classifier_for
    from unveil.models.training.classifier import predict_probabilities, train_classifier

    training_context = replace(
        context, report=lambda _, phase: context.report(0.0, f"the owner's model: {phase}"), metric=lambda *_: None
    )
    network = train_classifier(protected, labels, classifier_for(scheme, "quick"), training_context)
    return lambda images: predict_probabilities(network, images, context.device)
