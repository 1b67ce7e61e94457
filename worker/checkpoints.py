"""Checkpoints of a job in the blob store, where any worker finds them. Encrypted, because they contain key material."""

from __future__ import annotations

from dataclasses import dataclass, replace

from unveil.app.observability import failpoints
from unveil.app.security.envelope import DecryptionError, Keyring
from unveil.app.storage import BlobStore


@dataclass(frozen=True)
class EncryptedCheckpointStore:
    """Encrypts with the data key whose wrapped form is in the row of the job."""

    blobs: BlobStore
    keyring: Keyring
    wrapped_key: bytes
    account_id: str
    job_id: str
    folder: str

    def read(self, name: str) -> bytes | None:
        try:
            ciphertext = self.blobs.read(f"{self.folder}/{name}")
            return self.keyring.open(
                self.wrapped_key + ciphertext, **checkpoint_envelope_context(self.account_id, self.job_id)
            )
        except (FileNotFoundError, DecryptionError):
            return None

    def write(self, name: str, data: bytes) -> None:
        ciphertext = self.keyring.encrypt_with_data_key(
            self.wrapped_key, data, **checkpoint_envelope_context(self.account_id, self.job_id)
        )
        self.blobs.write(f"{self.folder}/{name}", ciphertext)
        failpoints.failpoint("checkpoint-written")

    def child(self, name: str) -> EncryptedCheckpointStore:
        return replace(self, folder=f"{self.folder}/{name}")


def checkpoint_envelope_context(account_id: str, job_id: str) -> dict[str, str]:
    """Associated data of the envelope."""
    return {"purpose": "checkpoints", "owner": account_id, "id": job_id}
