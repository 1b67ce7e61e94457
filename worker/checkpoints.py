"""A job's checkpoints among the blobs, so that any worker goes on from them; sealed, for they are secrets half made."""

from __future__ import annotations

from dataclasses import dataclass, replace

from unveil.app.observability import failpoints
from unveil.app.security.envelope import KeyRing, Unreadable
from unveil.app.storage import Blobs


@dataclass(frozen=True)
class SealedCheckpoints:
    """Checkpoints encrypted under the data key that `lock`, in the row of the job, wraps."""

    blobs: Blobs
    ring: KeyRing
    lock: bytes
    account_id: str
    job_id: str
    folder: str

    def read(self, name: str) -> bytes | None:
        try:
            sealed = self.blobs.read(f"{self.folder}/{name}")
            return self.ring.open(self.lock + sealed, **sealed_for(self.account_id, self.job_id))
        except (FileNotFoundError, Unreadable):
            return None

    def write(self, name: str, data: bytes) -> None:
        sealed = self.ring.seal_under(self.lock, data, **sealed_for(self.account_id, self.job_id))
        self.blobs.write(f"{self.folder}/{name}", sealed)
        failpoints.point("checkpoint-written")

    def part(self, name: str) -> SealedCheckpoints:
        return replace(self, folder=f"{self.folder}/{name}")


def sealed_for(account_id: str, job_id: str) -> dict[str, str]:
    """What their seals are bound to."""
    return {"purpose": "checkpoints", "owner": account_id, "id": job_id}
