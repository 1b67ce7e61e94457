"""Every table. Rows are the truth of all work; a message to a worker is only a doorbell."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from unveil.app.db.job_states import ACTIVE, Status

_STATUSES = ", ".join(f"'{status.value}'" for status in Status)
_ACTIVE_STATUSES = ", ".join(f"'{status.value}'" for status in Status if status in ACTIVE)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own protocol
        str: Text,
        bytes: LargeBinary,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[Any]: JSONB,
        list[str]: ARRAY(Text),
        list[int]: ARRAY(Integer),
        list[float]: ARRAY(Float),
    }


class TimestampMixin:
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class JobMixin:
    """What the job protocol needs of a row: see app/core/states.py and worker/lease.py."""

    status: Mapped[str] = mapped_column(String(16))
    progress: Mapped[float] = mapped_column(server_default=text("0"))  # 0..1
    phase: Mapped[str] = mapped_column(server_default="")
    error: Mapped[dict[str, Any] | None]  # {"code", "detail"}
    attempt: Mapped[int] = mapped_column(server_default=text("0"))  # the fence: rises with each claim
    attempts_without_progress: Mapped[int] = mapped_column(
        "stalls", server_default=text("0")
    )  # claims since the last progress
    lease_owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]  # on the database's clock
    enqueued_at: Mapped[datetime | None] = mapped_column("sent_at")  # when its id last went to the broker
    checkpoint_wrapped_key: Mapped[bytes | None] = mapped_column(
        "checkpoint_lock"
    )  # opens its checkpoints; gone with its end, and they with it
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Account(TimestampMixin, Base):
    __tablename__ = "accounts"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    revoked_at: Mapped[datetime | None]
    last_job_started_at: Mapped[datetime | None] = mapped_column(
        "served_at"
    )  # when one of its jobs was last begun: worker/turns.py


class Token(TimestampMixin, Base):
    """A bearer token, stored as a keyed hash."""

    __tablename__ = "tokens"

    hash: Mapped[bytes] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    scopes: Mapped[list[str]]
    revoked_at: Mapped[datetime | None]


class SignInCode(Base):
    """A one-use code that opens a dashboard session."""

    __tablename__ = "sign_in_codes"

    hash: Mapped[bytes] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    scopes: Mapped[list[str]]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class DashboardSession(TimestampMixin, Base):
    __tablename__ = "dashboard_sessions"

    hash: Mapped[bytes] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    scopes: Mapped[list[str]]
    expires_at: Mapped[datetime]


class Key(JobMixin, TimestampMixin, Base):
    """A protection key. `sealed` holds the secret in its envelope; a destroyed key keeps its row without it. Of a
    trained key it is the lock of the envelope alone, there from the order on; the body is a blob.

    A drawn or given key is born `succeeded`; a trained one follows the job states. Callers see `ready` for
    succeeded, `training` while active, and `destroyed` once destroyed_at is set.
    """

    __tablename__ = "keys"
    __table_args__ = (
        CheckConstraint(f"status IN ({_STATUSES})", name="status"),
        Index("ix_keys_account_id_id", "account_id", "id"),
        Index("ix_keys_active", "status", "lease_until", postgresql_where=text(f"status IN ({_ACTIVE_STATUSES})")),
        Index("ix_keys_checkpoints", "id", postgresql_where=text("checkpoint_lock IS NOT NULL")),
        Index("ix_keys_trained", "account_id", "scheme", "id", postgresql_where=text("training IS NOT NULL")),
        Index("ix_keys_leftover", "id", postgresql_where=text("destroyed_at IS NOT NULL AND blob IS NOT NULL")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    scheme: Mapped[str]
    params: Mapped[dict[str, Any]]
    sealed: Mapped[bytes | None]
    weights_blob: Mapped[str | None] = mapped_column(
        "blob"
    )  # the sealed weights of a trained key; named until they are deleted
    width: Mapped[int | None]  # of the only size an explicit map fits
    height: Mapped[int | None]
    uses: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    provenance: Mapped[dict[str, Any] | None]
    training_request: Mapped[dict[str, Any] | None] = mapped_column(
        "training"
    )  # the order of a trained key: dataset, profile, seed
    # Made for this evaluation, whose cells wait for it; the key outlives it.
    evaluation_id: Mapped[str | None] = mapped_column(ForeignKey("evaluations.id", ondelete="SET NULL"), index=True)
    destroyed_at: Mapped[datetime | None]


class Dataset(TimestampMixin, Base):
    """An uploaded dataset; the built-in ones have no row."""

    __tablename__ = "datasets"
    __table_args__ = (Index("ix_datasets_account_id_id", "account_id", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    name: Mapped[str]
    kind: Mapped[str] = mapped_column(String(16))  # plain, protected
    train_count: Mapped[int] = mapped_column("train")
    test_count: Mapped[int] = mapped_column("test")
    width: Mapped[int]
    height: Mapped[int]
    classes: Mapped[list[str]]
    has_originals: Mapped[bool] = mapped_column(server_default=text("false"))
    blob: Mapped[str]  # npz of train, train_labels, test, test_labels and, with originals, their plain images
    pixel_bytes: Mapped[int] = mapped_column("bytes", BigInteger)


class Evaluation(TimestampMixin, Base):
    __tablename__ = "evaluations"
    __table_args__ = (
        CheckConstraint(f"status IN ({_STATUSES})", name="status"),
        Index("ix_evaluations_account_id_id", "account_id", "id"),
        Index("ix_evaluations_active", "id", postgresql_where=text("finished_at IS NULL")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    name: Mapped[str]
    status: Mapped[str] = mapped_column(String(16))
    settings: Mapped[dict[str, Any]]  # every resolved setting
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    # Counts events. Every change of the evaluation or of a cell writes an event and so raises it: ETag and SSE ids.
    event_seq: Mapped[int] = mapped_column("version", BigInteger, server_default=text("0"))


class Cell(JobMixin, Base):
    """One scheme under one attack."""

    __tablename__ = "cells"
    __table_args__ = (
        UniqueConstraint("evaluation_id", "position"),
        CheckConstraint(f"status IN ({_STATUSES})", name="status"),
        Index("ix_cells_active", "status", "lease_until", postgresql_where=text(f"status IN ({_ACTIVE_STATUSES})")),
        Index("ix_cells_checkpoints", "id", postgresql_where=text("checkpoint_lock IS NOT NULL")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    evaluation_id: Mapped[str] = mapped_column(ForeignKey("evaluations.id", ondelete="CASCADE"))
    position: Mapped[int]
    scheme: Mapped[dict[str, Any]]  # {"name", settings..., maybe "key_id", or "dataset" and its name}, resolved
    attack: Mapped[dict[str, Any]]  # {"name", settings...}, resolved
    threat_model: Mapped[str]
    result: Mapped[dict[str, Any] | None]
    recovered_key: Mapped[bytes | None] = mapped_column(
        "recovered"
    )  # a recovered key in its envelope (purpose "recovered-key", id = cell id)


class Sample(Base):
    """A stored triple of lossless PNGs."""

    __tablename__ = "samples"

    cell_id: Mapped[str] = mapped_column(ForeignKey("cells.id", ondelete="CASCADE"), primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    ssim: Mapped[float | None]
    plain: Mapped[bytes | None]  # absent where an auditor gave no originals
    protected: Mapped[bytes]
    reconstructed: Mapped[bytes]


class Scores(Base):
    """Per-image values of a cell, one row a cell: arrays in the order of `index`, pooled over keys."""

    __tablename__ = "scores"

    cell_id: Mapped[str] = mapped_column(ForeignKey("cells.id", ondelete="CASCADE"), primary_key=True)
    index: Mapped[list[int]]
    ssim: Mapped[list[float]]
    psnr: Mapped[list[float]]
    rank: Mapped[list[float]]  # in the identification gallery, mean over keys


class Curve(Base):
    """Points [[step, value], ...] of one named curve of a cell (losses, SSIM by number of ciphertexts)."""

    __tablename__ = "curves"

    cell_id: Mapped[str] = mapped_column(ForeignKey("cells.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    points: Mapped[list[Any]]


class Event(TimestampMixin, Base):
    """What happened to an evaluation, in commit order: `seq` is the evaluation's version at the time."""

    __tablename__ = "events"

    evaluation_id: Mapped[str] = mapped_column(ForeignKey("evaluations.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    type: Mapped[str] = mapped_column(String(16))  # progress, cell, metric, status
    data: Mapped[dict[str, Any]]


class EvaluationArtifact(TimestampMixin, Base):
    """What one job of an evaluation computes for all of them: controls, a classifier. See worker/shared.py."""

    __tablename__ = "shared"

    evaluation_id: Mapped[str] = mapped_column(ForeignKey("evaluations.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    owner_job_id: Mapped[str] = mapped_column("holder")  # the cell or key that computes it, in this attempt
    attempt: Mapped[int]
    sealed: Mapped[bytes | None]  # in its envelope (purpose "shared", id = evaluation id/name); None: not yet there


class IdempotencyRecord(TimestampMixin, Base):
    """An Idempotency-Key an account has used: the answer it got, or none yet while the request runs."""

    __tablename__ = "idempotency"

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]  # SHA-256 of method, route and body
    reserved_ids: Mapped[dict[str, Any]] = mapped_column(
        "reserved"
    )  # ids fixed before the work, so that a repeat makes the same things
    status: Mapped[int | None] = mapped_column(Integer)
    body: Mapped[dict[str, Any] | None]
    headers: Mapped[dict[str, Any] | None]
    locked_until: Mapped[datetime]


class ProcessHeartbeat(Base):
    """Processes that are alive, by their own word (heartbeat on the database's clock): workers, and the service."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(primary_key=True)
    queues: Mapped[str] = mapped_column("queue")  # those it takes from, with commas; `api` for the service
    seen_at: Mapped[datetime]
    master_key_version: Mapped[int | None] = mapped_column("ring")  # number of the master key it seals with
    concurrency: Mapped[int | None] = mapped_column("slots")  # jobs it does at once
    lease_recoveries: Mapped[int | None] = mapped_column(
        "recoveries"
    )  # jobs it took from workers that were gone, since it began
    gpus: Mapped[list[Any] | None]  # [{"name", "use", "memory_used", "memory"}], use 0..1, memory in bytes
