"""What is trained: every network of the product with a profile's own settings, through its own door, and its peer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.training import peer
from benchmarks.training.peer import ReferenceLoop
from unveil.models.attacks.base import Attack, AttackInput, Pairs
from unveil.models.attacks.gan import generator_for
from unveil.models.attacks.itn_strong import strong_inverse_network
from unveil.models.catalog import make_attack, make_scheme
from unveil.models.core.images import Images
from unveil.models.core.profiles import Profile
from unveil.models.core.run_context import RunContext
from unveil.models.data.image_dataset import ImageDataset
from unveil.models.evaluation import utility_classifiers
from unveil.models.networks.unet import UNet
from unveil.models.schemes.base import Scheme
from unveil.models.schemes.tn_model import TnModel
from unveil.models.training import classifier
from unveil.models.training.classifier import Classifier, ClassifierSettings, train_classifier

STEPS = 4  # an epoch: how often whose turn it is can change
_MAX_EPOCHS = 100_000  # epochs, the most that settings take
_SIDE = 96


@dataclass(frozen=True)
class Case:
    """ours: trains until the context's metric stops it, one call an epoch; images: an epoch's, counted by both."""

    name: str
    images: int
    ours: Callable[[RunContext], object]
    peer: Callable[[], ReferenceLoop]


def cases(profile: Profile, batch: int | None = None) -> dict[str, Callable[[], Case]]:
    """By name; made in the process that trains. batch: instead of the profile's."""
    overrides = {} if batch is None else {"batch": batch}
    cases_by_name: dict[str, Callable[[], Case]] = {}
    for name, build_case in (("itn", _itn), ("itn-strong", _itn_strong), ("gan", _gan)):
        for scheme in ("pixelwise", "tanaka", "tn-gan"):
            attack = make_attack(name, {**overrides, "epochs": _MAX_EPOCHS}, profile)
            cases_by_name[f"{name} on {scheme}"] = partial(build_case, attack, make_scheme(scheme, {}, profile))
    for name, train in (("tn-model", _tn_model), ("tn-gan", _tn_gan)):
        settings = {**overrides, "epochs": _MAX_EPOCHS, "images": None, "classifier_epochs": 1}
        if name == "tn-gan":
            del settings["classifier_epochs"]
        cases_by_name[name] = partial(train, make_scheme(name, settings, profile))
    classifier_settings: Mapping[str, ClassifierSettings] = {
        "classifier": classifier.CLASSIFIERS[profile],
        "utility classifier": utility_classifiers.CLASSIFIERS[profile],
        "adaptation + classifier": replace(
            utility_classifiers.CLASSIFIERS[profile], adaptation=utility_classifiers.ADAPTATION_WIDTH[profile]
        ),
    }
    for name, s in classifier_settings.items():
        cases_by_name[name] = partial(_classifier, name, replace(s, **overrides, epochs=_MAX_EPOCHS))
    return {name: partial(_with_name, name, make) for name, make in cases_by_name.items()}


def _with_name(name: str, make: Callable[[], Case]) -> Case:
    return replace(make(), name=name)


def _itn(attack: Attack[Any], scheme: Scheme[Any, Any]) -> Case:
    s, attack_input = attack.settings, _make_attack_input(scheme, attack.settings.batch)
    networks: Mapping[str, Callable[[], nn.Module]] = {
        "pixelwise": lambda: peer.pixelwise_inverse(s.channels, _SIDE),
        "tanaka": peer.block_network,
        "tn-gan": lambda: UNet(s.width),
    }
    sgd = partial(torch.optim.SGD, lr=s.rate, momentum=s.momentum, weight_decay=s.weight_decay)
    side = s.side if scheme.name == "tn-gan" else None
    return _from_pairs(attack, attack_input, networks[scheme.name], sgd, nn.functional.mse_loss, side)


def _itn_strong(attack: Attack[Any], scheme: Scheme[Any, Any]) -> Case:
    s, attack_input = attack.settings, _make_attack_input(scheme, attack.settings.batch)
    networks: Mapping[str, Callable[[], nn.Module]] = {
        "pixelwise": lambda: peer.LocallyConnected(3, 3, _SIDE),
        "tanaka": peer.NibbleLinear,
        "tn-gan": strong_inverse_network(attack_input, s)[0],
    }
    adamw = partial(torch.optim.AdamW, lr=s.rate, weight_decay=s.weight_decay)
    return _from_pairs(
        attack, attack_input, networks[scheme.name], adamw, partial(peer.distance, ssim_weight=s.ssim_weight)
    )


def _from_pairs(
    attack: Attack[Any], attack_input: AttackInput, network: Any, optimizer: Any, loss: Any, side: int | None = None
) -> Case:
    assert attack_input.pairs is not None
    pairs, batch = attack_input.pairs, attack.settings.batch
    return Case(
        "",
        STEPS * batch,
        lambda context: attack.run(attack_input, context),
        lambda: peer.regression(network(), optimizer, loss, pairs.protected, pairs.plain, batch, side),
    )


def _gan(attack: Attack[Any], scheme: Scheme[Any, Any]) -> Case:
    # Without the polarity classifier and from random weights, to measure the cost of a step alone.
    attack = make_attack(attack.name, vars(replace(attack.settings, looks=0, linear=False)))
    s, attack_input = attack.settings, _make_attack_input(scheme, attack.settings.batch)
    assert attack_input.public is not None
    tensor_groups = [attack_input.observed, attack_input.public]
    generator = (
        partial(peer.block_network, output_tanh=True) if scheme.name == "tanaka" else generator_for(attack_input, s)
    )
    return Case(
        "",
        STEPS * s.batch,
        lambda context: attack.run(attack_input, context),
        lambda: peer.gan(generator(), s, tensor_groups),
    )


def _tn_model(scheme: Scheme[Any, Any]) -> Case:
    assert isinstance(scheme, TnModel)
    s = scheme.settings
    data = _make_dataset(STEPS * s.batch * 10 // 9 + 1)
    held_out = np.arange(len(data.train)) % 10 == 9
    classifier_settings = scheme.classifier_settings()
    splits = [(data.train[mask], data.train_labels[mask]) for mask in (~held_out, held_out)]
    return Case(
        "",
        STEPS * s.batch,
        lambda context: scheme.train(data, context),
        lambda: peer.train_transformation(s, Classifier(len(data.classes), classifier_settings), *splits[0], splits[1]),
    )


def _tn_gan(scheme: Scheme[Any, Any]) -> Case:
    s = scheme.settings
    data = _make_dataset(2 * STEPS * s.batch)
    plain, protected = data.train[0::2], 255 - data.train[1::2]
    return Case(
        "", STEPS * s.batch, lambda context: scheme.train(data, context), lambda: peer.cyclegan(s, plain, protected)
    )


def _classifier(name: str, s: ClassifierSettings) -> Case:
    data = _make_dataset(STEPS * s.batch)
    network = partial(peer.adapted_classifier if s.adaptation else Classifier, len(data.classes), s)
    return Case(
        name,
        len(data.train),
        lambda context: train_classifier(data.train, data.train_labels, s, context),
        lambda: peer.classification(network(), s, data.train, data.train_labels),
    )


def _make_attack_input(scheme: Scheme[Any, Any], batch: int) -> AttackInput:
    """What is learned does not matter here, only that it can be: the negative of noise."""
    plain = _make_noise(2 * STEPS * batch)
    plain, public = plain[0::2], plain[1::2]
    return AttackInput(scheme, 255 - plain[:1], 255 - plain, public, Pairs(plain, 255 - plain))


def _make_dataset(count: int) -> ImageDataset:
    images = _make_noise(count)
    labels = np.arange(count) % 10
    return ImageDataset("benchmark", images, labels, images[:1], labels[:1], tuple("abcdefghij"))


def _make_noise(count: int) -> Images:
    return np.random.default_rng(0).integers(0, 256, (count, _SIDE, _SIDE, 3), np.uint8)
