"""A protection key: ready at once, or a trained one that is ready when its training has succeeded."""

from __future__ import annotations

from typing import Any, ClassVar

from unveil.app.client.job import AsyncJob, BlockingJob, RemoteJob
from unveil.app.client.progress import ProgressSnapshot
from unveil.app.client.transport import blocking


class KeyState(RemoteJob):
    active_statuses: ClassVar = frozenset({"queued", "training", "cancelling"})
    _collection: ClassVar = "keys"

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
        """Number of images encrypted or decrypted with the key."""
        return int(self.raw["uses"])

    @property
    def training(self) -> dict[str, Any] | None:
        """The request for the training of the key: profile, dataset, seed."""
        return self.raw.get("training")

    @property
    def error(self) -> dict[str, str] | None:
        """Why the training failed: code and detail."""
        return self.raw.get("error")

    @property
    def provenance(self) -> dict[str, Any] | None:
        """How the key was trained: data, settings, losses, versions."""
        return self.raw.get("provenance")

    def snapshot(self) -> ProgressSnapshot:
        fraction = 1.0 if self.ready else self.raw.get("progress") or 0.0
        return ProgressSnapshot(fraction, self.raw.get("phase") or self.status, self.status, self.scheme)


async def _material(key: KeyState, /) -> dict[str, Any]:
    """The secret of the key; the token needs the scope keys:export."""
    return dict((await key._transport.request("GET", f"{key.path}/material")).json()["material"])


class Key(BlockingJob, KeyState):
    material = blocking(_material)


class AsyncKey(AsyncJob, KeyState):
    material = _material
