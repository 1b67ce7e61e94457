"""A plug-in whose cells sleep: what the service itself costs shows, not what the processor can do."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from unveil.plugins import Images, NetworkMap, Scheme, setting


@dataclass(frozen=True)
class SleepingSettings:
    seconds: float = setting(1.0, "How long the protection of the test images takes", minimum=0)
    number: int = setting(0, "Tells apart cells that are otherwise alike", minimum=0)


class Sleeping(Scheme[SleepingSettings, bytes]):
    """Sleeps, then inverts the images."""

    name = "benchmark/sleeping"
    title = "Sleeping"
    source = "Unveil, benchmarks"
    Settings = SleepingSettings
    structure = NetworkMap()  # so that few attacks apply

    def derive(self, seed: bytes, height: int, width: int) -> bytes:  # noqa: ARG002
        return seed

    def encrypt(self, images: Images, key: Any) -> Images:  # noqa: ARG002
        time.sleep(self.settings.seconds)
        return 255 - images
