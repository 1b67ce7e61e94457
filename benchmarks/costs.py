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
from unveil.models.core.profiles import LIMITS, PROFILES, Profile
from unveil.models.core.run_context import Context
from unveil.models.data.datasets import Data, load_folder, sample
from unveil.models.evaluation import classification_utility
from unveil.models.evaluation.attacker_view import allowed, lay_out
from unveil.models.schemes.tn_gan import TnGan
from unveil.models.schemes.tn_model import TnModel
from unveil.models.training.classifier import Classifier, ClassifierSettings, train_classifier

FIVE = ("pixelwise:same", "pixelwise:different", "tanaka", "tn-model", "tn-gan")
_CONTROLS = 2  # trained once for all schemes that an attack meets in the same way
# Images a step here, where the paper's step takes minutes on one core; the cost of an image hardly depends on it.
_AT_MOST: Mapping[str, int] = {"unet": 4, "images": 4, "tn-model": 4}


@dataclass(frozen=True)
class Training:
    name: str
    times: int  # in an evaluation of the five schemes
    images: int  # an epoch
    begin: Callable[[Context], object]


@dataclass(frozen=True)
class Cost:
    images_per_second: float
    seconds: float  # of the whole training, once


@dataclass(frozen=True)
class _Whole(Context):
    """Each part of a work reports on its own scale."""

    def part(self, name: str, begin: float, end: float) -> Context:  # noqa: ARG002
        return self


def cost(training: Training, seconds: float) -> Cost:
    """Train for `seconds`, two steps at least, after a first step that warms up."""
    seen: list[tuple[float, float]] = []
    epochs = 0

    def look(fraction: float, phase: str) -> None:
        nonlocal epochs
        told = re.match(r"epoch \d+ of (\d+)", phase)
        if told is None or (seen and fraction <= seen[-1][0]):
            return
        epochs = int(told[1])
        seen.append((fraction, time.process_time()))
        if len(seen) > 2 and seen[-1][1] - seen[0][1] >= seconds:
            raise Cancelled

    with suppress(Cancelled):
        training.begin(_Whole(report=look))
    (before, began), (after, ended) = seen[0], seen[-1]
    whole = (ended - began) / (after - before)
    return Cost(epochs * training.images / whole, whole)


def trainings(data: Data, profile: Profile) -> Iterator[Training]:
    schemes = [make_scheme(*catalog.parse_spec("scheme", text), profile) for text in FIVE]
    used = data.first(*LIMITS[profile])
    for name, kind in catalog.attacks().items():
        attack = make_attack(name, {}, profile)
        met = [scheme for scheme in schemes if attack.refuses(scheme) is None]
        for way in dict.fromkeys(attack.approach(scheme) for scheme in met) if kind.learned else ():
            times = sum(attack.approach(scheme) == way for scheme in met) + _CONTROLS
            own = make_attack(name, _smaller(way, attack.settings.batch), profile)
            scheme = next(scheme for scheme in met if attack.approach(scheme) == way)
            # Cost does not depend on what the images show: the positive control stands for all.
            material = allowed(scheme, own, lay_out(own, used.test, used.train), lambda images, _: 255 - images)
            yield Training(f"{name}, {way}", times, len(material.observed), lambda c, a=own, m=material: a.run(m, c))
    tn_model, tn_gan = make_scheme("tn-model", {}, profile), make_scheme("tn-gan", {}, profile)
    assert isinstance(tn_model, TnModel)
    assert isinstance(tn_gan, TnGan)
    yield _classifier("tn-model, its classifier", 1, data, tn_model.settings.images, tn_model.classifier())
    yield _tn_model(data, TnModel(replace(tn_model.settings, **_smaller("tn-model", tn_model.settings.batch))))
    count = len(data.train[: tn_gan.settings.images])
    yield Training("tn-gan", 1, count // 2, lambda context: tn_gan.train(data, context))
    count = len(classification_utility.taken(data, profile).train)
    yield _classifier("utility, a classifier", 4, data, count, classification_utility.CLASSIFIERS[profile])
    tanaka = classification_utility.classifier_for(make_scheme("tanaka", {}), profile)
    yield _classifier("utility, behind the adaptation network", 1, data, count, tanaka)


def _smaller(way: str, batch: int) -> dict[str, int]:
    return {"batch": min(batch, _AT_MOST.get(way, batch))}


def _classifier(name: str, times: int, data: Data, count: int | None, settings: ClassifierSettings) -> Training:
    images, labels = data.train[:count], data.train_labels[:count]
    return Training(name, times, len(images), lambda context: train_classifier(images, labels, settings, context))


def _tn_model(data: Data, scheme: TnModel) -> Training:
    """Against a classifier that has learned nothing: it costs the same."""
    untrained = serialization.dump(Classifier(len(data.classes), scheme.classifier()))

    def begin(context: Context) -> object:
        return scheme.train(data, replace(context, shared=lambda *_: untrained))

    return Training("tn-model, its U-Net", 1, len(data.train[: scheme.settings.images]) * 9 // 10, begin)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.costs")
    parser.add_argument("names", nargs="*", help="only trainings whose name contains one of these")
    parser.add_argument("--data", default="sample", help="a folder in STL-10's layout or of class folders, or `sample`")
    parser.add_argument("--profile", choices=PROFILES, default="quick")
    parser.add_argument("--seconds", type=float, default=20, help="of each training")
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = sample() if given.data == "sample" else load_folder(Path(given.data))
    print("| training | images/s | once | times | together |\n|---|---|---|---|---|")
    total = 0.0
    for training in trainings(data, given.profile):
        if given.names and not any(name in training.name for name in given.names):
            continue
        found = cost(training, given.seconds)
        together = found.seconds * training.times
        total += together
        cells = training.name, f"{found.images_per_second:.1f}", _span(found.seconds), training.times, _span(together)
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
    print(f"| all | | | | {_span(total)} |")


def _span(seconds: float) -> str:
    for limit, unit, name in ((300, 1, "s"), (3 * 3600, 60, "min"), (100 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} days"


if __name__ == "__main__":
    main()
