"""Settings of API, workers and commands, from environment variables UNVEIL_*: see docs/reference/settings.md."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, AliasGenerator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

log = logging.getLogger(__name__)

# Names of version 0.1, which are read until 0.3.
OLD_NAMES = {
    "anonymous_requests_per_second": "strangers_per_second",
    "encrypt_timeout_s": "encrypt_budget_s",
    "unpack_timeout_s": "unpack_budget_s",
    "lease_ttl_s": "lease_s",
    "heartbeat_interval_s": "heartbeat_s",
    "sweep_interval_s": "sweep_s",
    "max_attempts_without_progress": "max_stalls",
    "max_active_jobs": "max_queued_cells",
    "max_event_streams": "max_streams",
    "sign_in_code_ttl_minutes": "sign_in_minutes",
    "idempotency_ttl_hours": "idempotency_hours",
}


def variable_name(name: str) -> str:
    """The environment variable of a setting."""
    return f"UNVEIL_{name.upper()}"


def _variables(name: str) -> AliasChoices:
    """The first one that is set counts."""
    return AliasChoices(*map(variable_name, filter(None, (name, OLD_NAMES.get(name)))))


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        alias_generator=AliasGenerator(validation_alias=_variables), populate_by_name=True, frozen=True
    )

    environment: Literal["development", "production"] = Field(
        "development", description="production refuses to start with the development keyring"
    )
    database_url: str = Field(
        "postgresql://localhost/unveil", pattern="^postgres(ql)?://", description="PostgreSQL address (libpq form)"
    )
    redis_url: str = Field(
        "redis://localhost:6379/0",
        pattern="^(rediss?|unix)://",
        description="Redis address: Celery's broker, and encryption requests (`unix://` for a socket)",
    )
    keyring_file: Path | None = Field(None, description="File of the master keys and the token pepper")
    data_dir: Path | None = Field(None, description="Folder of datasets on this machine, including stl10 and cifar10")
    blob_url: str = Field("file://.unveil/blobs", description="Store for uploads, weights and checkpoints (fsspec URL)")
    plugins: str = Field(
        "", description="Plug-ins of the service and its workers: files and module names, separated by commas"
    )
    device: str = Field("auto", description="Device of attack workers: auto, cpu, cuda, cuda:0, ...")

    max_files: int = Field(64, description="Images in a request")
    max_body_bytes: int = Field(32 * 2**20, description="Bytes in a request body")
    max_pixels: int = Field(16_000_000, description="Pixels in an image")
    max_request_pixels: int = Field(32_000_000, description="Pixels in all images of a request")
    max_upload_bytes: int = Field(512 * 2**20, description="Bytes in an uploaded dataset archive")
    max_unpacked_bytes: int = Field(4 * 2**30, description="Total size of the files in an uploaded archive")
    max_archive_members: int = Field(100_000, description="Files in an uploaded archive")
    max_dataset_bytes: int = Field(
        512 * 2**20, description="Bytes of pixels in an uploaded dataset, with its originals"
    )
    max_archive_ratio: int = Field(200, description="Highest compression ratio of a file in an archive")
    max_active_jobs: int = Field(
        500, description="Cells and key trainings of an account that may be queued or running at once"
    )
    max_cost_core_hours: float = Field(
        1000.0, ge=0, description="Core hours in 30 days for an account without its own quota"
    )
    max_event_streams: int = Field(32, description="Open event streams of an account on one API process")
    max_connections: int = Field(
        2048, gt=0, description="Open connections of one API process; beyond them requests get 503"
    )
    request_head_timeout_s: float = Field(10.0, gt=0, description="How long a request's head may take to arrive")
    request_body_timeout_s: float = Field(300.0, gt=0, description="How long a request's body may take to arrive")
    metrics_token: SecretStr | None = Field(
        None, description="Bearer token that GET /metrics requires; if unset, the route is public"
    )
    secure_cookies: bool = Field(
        False, description="Set this behind a proxy with TLS: session cookies become Secure, with the prefix `__Host-`"
    )
    forwarded_allow_ips: str = Field(
        "",
        description="Proxies whose X-Forwarded-For is trusted, separated by commas; empty: no proxy, and all "
        "callers behind a proxy share one rate limit",
    )
    root_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="Path below which a reverse proxy serves Unveil, such as `/unveil`; the proxy may strip "
        "it or pass it on",
    )
    requests_per_second: float = Field(50.0, gt=0, description="Requests per second of an account")
    anonymous_requests_per_second: float = Field(
        20.0, gt=0, description="Requests per second of an IP address without a valid token"
    )

    webhook_allowed_networks: str = Field(
        "",
        description="Private networks whose addresses webhooks may be sent to, also by http, as in `10.1.0.0/16`, "
        "separated by commas; empty: public addresses by https alone",
    )

    encrypt_timeout_s: float = Field(30.0, description="How long a request waits for an encryption worker")
    unpack_timeout_s: float = Field(300.0, description="How long an upload waits for a worker to unpack it")
    lease_ttl_s: float = Field(
        60.0, description="Time after which the lease of a job expires if its worker does not renew it"
    )
    heartbeat_interval_s: float = Field(
        10.0, description="How often a worker renews its leases, and every process writes its heartbeat"
    )
    sweep_interval_s: float = Field(15.0, description="How often the sweeper requeues jobs whose lease has expired")
    max_attempts_without_progress: int = Field(
        5, description="Attempts without progress after which a job fails with `poison`"
    )
    job_memory_bytes: int | None = Field(
        None,
        ge=2**28,
        description="Memory that a worker process may use; unset: its share of the free memory when the worker "
        "starts; with a GPU: no limit",
    )
    cell_images_bytes: int = Field(
        16 * 2**20,
        ge=0,
        description="Bytes of protected and of reconstructed pixels that a cell keeps for its page beside its samples; "
        "its evaluation keeps at most four times as many of originals",
    )
    time_slice_s: float = Field(
        900.0,
        gt=0,
        description="How long a training runs until it writes a checkpoint and goes to the back of the queue",
    )
    budget_smoke_s: float = Field(
        3600.0,
        gt=0,
        description="Time that a job of the profile smoke may use in all attempts before it fails with `over_budget`",
    )
    budget_quick_s: float = Field(24 * 3600.0, gt=0, description="The same for the profile quick")
    budget_paper_s: float = Field(30 * 24 * 3600.0, gt=0, description="The same for the profile paper")
    idempotency_ttl_hours: int = Field(24, description="How long the response of an Idempotency-Key is kept")
    sign_in_code_ttl_minutes: int = Field(15, description="How long a sign-in code is valid")

    def job_budget_s(self, profile: str) -> float:
        """The time that a job of the profile may use in all its attempts."""
        return float(getattr(self, f"budget_{profile}_s"))

    @property
    def webhook_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return _parse_networks(self.webhook_allowed_networks)

    @field_validator("webhook_allowed_networks")
    @classmethod
    def _check_networks(cls, value: str) -> str:
        _parse_networks(value)
        return value

    @property
    def sqlalchemy_url(self) -> str:
        """The database address for SQLAlchemy, sync and async, with the driver psycopg 3."""
        return "postgresql+psycopg://" + self.database_url.split("://", 1)[1]

    @property
    def celery_broker_url(self) -> str:
        """The Redis address for Celery, which has other words for a Unix socket and its database number."""
        if not self.redis_url.startswith("unix://"):
            return self.redis_url
        return self.redis_url.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=", 1)

    @model_validator(mode="before")
    @classmethod
    def _warn_about_old_names(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        given = {name.upper() for name in (*os.environ, *values)}
        for name, old_name in OLD_NAMES.items():
            if variable_name(old_name) in given:
                _warn_once(variable_name(old_name), variable_name(name))
        return values


def _parse_networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Raises ValueError."""
    return tuple(map(ip_network, filter(None, map(str.strip, text.split(",")))))


@cache
def _warn_once(old_variable: str, new_variable: str) -> None:
    log.warning("%s is now called %s; the old name is read until version 0.3", old_variable, new_variable)


@cache
def get_settings() -> Settings:
    return Settings()
