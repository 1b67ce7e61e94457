"""`python -m benchmarks.costs [--data DIR] [--profile quick] [--seconds 20] [NAME ...]`: what each training will cost.

Every network that the paper's five schemes and all attacks train is trained for some seconds, with the settings of the
profile and by the loop that trains it in an evaluation; the rest is projected from the share that was done. Seconds are
of this process's own CPU time, with one thread: what one core takes, however busy the machine.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from unveil.models import catalog
from unveil.models.catalog import make_attack, make_scheme
from unveil.models.core import serialization
from unveil.models.core.errors import Cancelled
from unveil.models.core.profiles import PROFILE_IMAGE_COUNTS, PROFILES, Profile
from unveil.models.core.run_context import RunContext
from unveil.models.data.datasets import load_folder
from unveil.models.data.image_dataset import ImageDataset
from unveil.models.data.sample import sample
from unveil.models.evaluation import classification_utility, utility_classifiers
from unveil.models.evaluation.attacker_view import build_attack_input, split_images
from unveil.models.schemes.tn_gan import TnGan
from unveil.models.schemes.tn_model import TnModel
from unveil.models.training.classifier import Classifier, ClassifierSettings, train_classifier

PAPER_SCHEMES = ("pixelwise:same", "pixelwise:different", "tanaka", "tn-model", "tn-gan")
_CONTROL_TRAININGS = 2  # trained once for all schemes that an attack meets in the same way
# Images a step here, where the paper's step takes minutes on one core; the cost of an image hardly depends on it.
_MAX_BATCH: Mapping[str, int] = {"unet": 4, "images": 4, "tn-model": 4}


@dataclass(frozen=True)
class Training:
    name: str
    times: int  # in an evaluation of the five schemes
    images: int  # an epoch
    start: Callable[[RunContext], object]


@dataclass(frozen=True)
class Cost:
    images_per_second: float
    seconds: float  # of the whole training, once


@dataclass(frozen=True)
class _UnscaledContext(RunContext):
    """Each part of a work reports on its own scale."""

    def scoped(self, name: str, start: float, end: float) -> RunContext:  # noqa: ARG002
        return self


def measure_cost(training: Training, seconds: float) -> Cost:
    """Train for `seconds`, two steps at least, after a first step that warms up."""
    reports: list[tuple[float, float]] = []
    epochs = 0

    def on_report(fraction: float, phase: str) -> None:
        nonlocal epochs
        match = re.match(r"epoch \d+ of (\d+)", phase)
        if match is None or (reports and fraction <= reports[-1][0]):
            return
        epochs = int(match[1])
        reports.append((fraction, time.process_time()))
        if len(reports) > 2 and reports[-1][1] - reports[0][1] >= seconds:
            raise Cancelled

    with suppress(Cancelled):
        training.start(_UnscaledContext(report=on_report))
    (first_fraction, first_seconds), (last_fraction, last_seconds) = reports[0], reports[-1]
    total_seconds = (last_seconds - first_seconds) / (last_fraction - first_fraction)
    return Cost(epochs * training.images / total_seconds, total_seconds)


def trainings(data: ImageDataset, profile: Profile) -> Iterator[Training]:
    schemes = [make_scheme(*catalog.parse_spec("scheme", text), profile) for text in PAPER_SCHEMES]
    used_data = data.take(*PROFILE_IMAGE_COUNTS[profile])
    for name, kind in catalog.attacks().items():
        attack = make_attack(name, {}, profile)
        applicable = [scheme for scheme in schemes if attack.not_applicable_reason(scheme) is None]
        for control_key in (
            dict.fromkeys(attack.control_cache_key(scheme) for scheme in applicable) if kind.learning_based else ()
        ):
            times = sum(attack.control_cache_key(scheme) == control_key for scheme in applicable) + _CONTROL_TRAININGS
            small_attack = make_attack(name, _smaller_batch(control_key, attack.settings.batch), profile)
            scheme = next(scheme for scheme in applicable if attack.control_cache_key(scheme) == control_key)
            # Cost does not depend on what the images show: the positive control stands for all.
            attack_input = build_attack_input(
                scheme,
                small_attack,
                split_images(small_attack, used_data.test, used_data.train),
                lambda images, _: 255 - images,
            )
            yield Training(
                f"{name}, {control_key}",
                times,
                len(attack_input.observed),
                lambda c, a=small_attack, m=attack_input: a.run(m, c),
            )
    tn_model, tn_gan = make_scheme("tn-model", {}, profile), make_scheme("tn-gan", {}, profile)
    assert isinstance(tn_model, TnModel)
    assert isinstance(tn_gan, TnGan)
    yield _classifier("tn-model, its classifier", 1, data, tn_model.settings.images, tn_model.classifier_settings())
    yield _tn_model(data, TnModel(replace(tn_model.settings, **_smaller_batch("tn-model", tn_model.settings.batch))))
    count = len(data.train[: tn_gan.settings.images])
    yield Training("tn-gan", 1, count // 2, lambda context: tn_gan.train(data, context))
    count = len(classification_utility.limit_to_profile(data, profile).train)
    yield _classifier("utility, a classifier", 4, data, count, utility_classifiers.CLASSIFIERS[profile])
    tanaka = utility_classifiers.classifier_for(make_scheme("tanaka", {}), profile)
    yield _classifier("utility, behind the adaptation network", 1, data, count, tanaka)


def _smaller_batch(control_key: str, batch: int) -> dict[str, int]:
    return {"batch": min(batch, _MAX_BATCH.get(control_key, batch))}


def _classifier(name: str, times: int, data: ImageDataset, count: int | None, settings: ClassifierSettings) -> Training:
    images, labels = data.train[:count], data.train_labels[:count]
    return Training(name, times, len(images), lambda context: train_classifier(images, labels, settings, context))


def _tn_model(data: ImageDataset, scheme: TnModel) -> Training:
    """Against a classifier that has learned nothing: it costs the same."""
    untrained = serialization.dump(Classifier(len(data.classes), scheme.classifier_settings()))

    def start(context: RunContext) -> object:
        return scheme.train(data, replace(context, memoize=lambda *_: untrained))

    return Training("tn-model, its U-Net", 1, len(data.train[: scheme.settings.images]) * 9 // 10, start)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.costs")
    parser.add_argument("names", nargs="*", help="only trainings whose name contains one of these")
    parser.add_argument("--data", default="sample", help="a folder in STL-10's layout or of class folders, or `sample`")
    parser.add_argument("--profile", choices=PROFILES, default="quick")
    parser.add_argument("--seconds", type=float, default=20, help="of each training")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = sample() if args.data == "sample" else load_folder(Path(args.data))
    print("| training | images/s | once | times | together |\n|---|---|---|---|---|")
    total = 0.0
    for training in trainings(data, args.profile):
        if args.names and not any(name in training.name for name in args.names):
            continue
        measured = measure_cost(training, args.seconds)
        total_seconds = measured.seconds * training.times
        total += total_seconds
        cells = (
            training.name,
            f"{measured.images_per_second:.1f}",
            _format_duration(measured.seconds),
            training.times,
            _format_duration(total_seconds),
        )
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
    print(f"| all | | | | {_format_duration(total)} |")


def _format_duration(seconds: float) -> str:
    for limit, unit, name in ((300, 1, "s"), (3 * 3600, 60, "min"), (100 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} days"


if __name__ == "__main__":
    main()
