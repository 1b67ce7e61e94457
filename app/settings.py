"""Every setting of service and workers, from the environment (UNVEIL_*). Documented in docs/reference/settings.md."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="UNVEIL_", frozen=True)

    environment: Literal["development", "production"] = Field(
        "development", description="production refuses to start with the development key ring"
    )
    database_url: str = Field(
        "postgresql://localhost/unveil", pattern="^postgres(ql)?://", description="PostgreSQL address (libpq form)"
    )
    redis_url: str = Field(
        "redis://localhost:6379/0",
        pattern="^(rediss?|unix)://",
        description="Redis address: Celery's broker and encryption work",
    )
    keyring_file: Path | None = Field(None, description="File of master keys and token pepper; see app/core/crypto.py")
    data_dir: Path | None = Field(None, description="Folder of data sets an operator allows; also stl10 and cifar10")
    blob_url: str = Field("file://.unveil/blobs", description="Where archives, weights and checkpoints go (fsspec URL)")
    device: str = Field("auto", description="Device of attack workers: auto, cpu, cuda, cuda:0 ...")

    max_files: int = Field(64, description="Images a request")
    max_body_bytes: int = Field(32 * 2**20, description="Bytes a request body")
    max_pixels: int = Field(16_000_000, description="Pixels an image")
    max_request_pixels: int = Field(32_000_000, description="Pixels of all images of a request together")
    max_upload_bytes: int = Field(512 * 2**20, description="Bytes of an uploaded dataset archive")
    max_unpacked_bytes: int = Field(4 * 2**30, description="Bytes an uploaded archive may unpack to")
    max_archive_members: int = Field(100_000, description="Files in an uploaded archive")
    max_dataset_bytes: int = Field(512 * 2**20, description="Bytes of pixels in an uploaded dataset, originals too")
    max_archive_ratio: int = Field(200, description="Unpacked bytes for each packed byte of an archive's member")
    max_active_jobs: int = Field(500, description="Cells and trainings an account may have queued or running at once")
    max_event_streams: int = Field(
        32, description="Event streams an account may hold open on one process of the service"
    )
    metrics_token: SecretStr | None = Field(None, description="Token that GET /metrics asks for; without it, nobody's")
    requests_per_second: float = Field(50.0, gt=0, description="Requests a second an account may make")
    anonymous_requests_per_second: float = Field(
        20.0, gt=0, description="Requests a second without a valid token that an address may make"
    )

    encrypt_timeout_s: float = Field(30.0, description="How long a request waits for an encryption worker")
    unpack_timeout_s: float = Field(300.0, description="How long an upload waits until a worker has unpacked it")
    lease_ttl_s: float = Field(60.0, description="How long a claimed job stays with a silent worker")
    heartbeat_interval_s: float = Field(10.0, description="How often a worker renews its lease")
    sweep_interval_s: float = Field(15.0, description="How often the sweeper looks for lost jobs")
    max_attempts_without_progress: int = Field(
        5, description="Attempts without progress after which a job fails as poison"
    )
    idempotency_ttl_hours: int = Field(24, description="How long an Idempotency-Key is remembered")
    sign_in_code_ttl_minutes: int = Field(15, description="How long a one-use sign-in code lives")

    @property
    def sqlalchemy_url(self) -> str:
        """The database address with the psycopg 3 driver named; sync and async engines both take it."""
        return "postgresql+psycopg://" + self.database_url.split("://", 1)[1]


@cache
def get_settings() -> Settings:
    return Settings()
