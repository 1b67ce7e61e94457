"""A scheme whose keys are trained in no time: what the service does about training, without a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from unveil.models import catalog, registry
from unveil.models.core.images import Images
from unveil.models.core.run_context import RunContext
from unveil.models.core.settings_schema import setting
from unveil.models.data.image_dataset import ImageDataset
from unveil.models.schemes.base import Scheme, TrainedKey

NAME = "tn-shift"


@dataclass(frozen=True)
class ShiftSettings:
    epochs: int = setting(8, "Epochs", minimum=1, maximum=100)


class Shift(Scheme[ShiftSettings, int]):
    """Adds to every pixel what it has learned: how many images there were."""

    name = NAME
    title = "A shift"
    source = "nowhere"
    Settings = ShiftSettings
    trains = True
    invertible = False
    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smoke": {"epochs": 2}}
    on_trained: ClassVar[Callable[[RunContext], object]]

    def train(self, data: ImageDataset, context: RunContext) -> TrainedKey:
        for epoch in range(self.settings.epochs):
            context.metric("loss", epoch + 1, 1 / (epoch + 1))
            context.report((epoch + 1) / self.settings.epochs, f"epoch {epoch + 1} of {self.settings.epochs}")
        type(self).on_trained(context)
        weights = b"w" + bytes([len(data.train) % 256]) + b" and more, so that no ciphertext holds them by chance"
        return TrainedKey(weights, {"data": data.name, "loss": float("nan")})

    def key(self, secret: bytes, height: int, width: int) -> int:
        return secret[1]

    def encrypt(self, images: Images, key: int) -> Images:
        return images + np.uint8(key)

    def key_space_bits(self, height: int, width: int) -> float | None:
        return None

    def derive(self, seed: bytes, height: int, width: int) -> int:
        raise NotImplementedError

    def decrypt(self, images: Images, key: int) -> Images:
        raise NotImplementedError

    def key_to_json(self, key: int) -> dict[str, Any]:
        raise NotImplementedError

    def key_from_json(self, material: Mapping[str, Any]) -> int:
        raise NotImplementedError


def register_scheme(
    monkeypatch: pytest.MonkeyPatch, on_trained: Callable[[RunContext], object] = lambda context: None
) -> None:
    """Put the scheme into the catalog; `lesson(context)` is called at the end of its training."""
    catalog.schemes()  # registers the built-in schemes
    monkeypatch.setattr(Shift, "on_trained", staticmethod(on_trained), raising=False)
    registration = registry._Registration(Shift, registry.Origin("tests", None, "0" * 64))
    monkeypatch.setitem(registry._registry["scheme"], NAME, registration)
