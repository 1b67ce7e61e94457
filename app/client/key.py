"""A protection key: ready at once, or a trained one that is ready when its training has succeeded."""

from __future__ import annotations

from typing import Any, ClassVar

from unveil.app.client import job
from unveil.app.client.job import Job
from unveil.app.client.operations_core import Request, Talk
from unveil.app.client.progress import Look
from unveil.app.client.transport import awaiting, blocking


class KeyState(Job):
    active: ClassVar = frozenset({"queued", "training", "cancelling"})
    _room: ClassVar = "keys"

    @property
    def scheme(self) -> str:
        return str(self.raw["scheme"])

    @property
    def params(self) -> dict[str, Any]:
        return dict(self.raw["params"])

    @property
    def ready(self) -> bool:
        """Whether it can be used."""
        return self.status == "ready"

    @property
    def uses(self) -> int:
        """Images that went through it, in either direction."""
        return int(self.raw["uses"])

    @property
    def training(self) -> dict[str, Any] | None:
        """The order of a trained key: profile, dataset, seed."""
        return self.raw.get("training")

    @property
    def error(self) -> dict[str, str] | None:
        """Why the training failed: code and detail."""
        return self.raw.get("error")

    @property
    def provenance(self) -> dict[str, Any] | None:
        """How a trained key came about: data, settings, losses, versions."""
        return self.raw.get("provenance")

    def look(self) -> Look:
        fraction = 1.0 if self.ready else self.raw.get("progress") or 0.0
        return Look(fraction, self.raw.get("phase") or self.status, self.scheme)


def _material(key: KeyState, /) -> Talk[dict[str, Any]]:
    """The secret itself; the token needs the scope keys:export."""
    response = yield Request("GET", f"{key.path}/material")
    return dict(response.json()["material"])


class Key(KeyState):
    refresh = blocking(job.refresh)
    wait = blocking(job.wait)
    cancel = blocking(job.cancel)
    delete = blocking(job.delete)
    material = blocking(_material)


class AsyncKey(KeyState):
    refresh = awaiting(job.refresh)
    wait = awaiting(job.wait)
    cancel = awaiting(job.cancel)
    delete = awaiting(job.delete)
    material = awaiting(_material)
