"""Every table. PostgreSQL is the source of truth: losing a message in Redis delays a job, but never loses it."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
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
    true,
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
        list[bool]: ARRAY(Boolean),
    }


class TimestampMixin:
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class JobMixin:
    """Columns of the job protocol: see app/db/job_states.py and worker/lease.py."""

    status: Mapped[str] = mapped_column(String(16))
    progress: Mapped[float] = mapped_column(server_default=text("0"))  # 0..1
    phase: Mapped[str] = mapped_column(server_default="")
    error: Mapped[dict[str, Any] | None]  # {"code", "detail"}
    attempt: Mapped[int] = mapped_column(server_default=text("0"))  # fencing token: each claim increments it
    attempts_without_progress: Mapped[int] = mapped_column(server_default=text("0"))
    lease_owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]  # by the database's clock
    # Wraps the data key of the job's checkpoints. Set to NULL when the job ends: what is left of them is unreadable.
    checkpoint_wrapped_key: Mapped[bytes | None]
    seconds_used: Mapped[float] = mapped_column(server_default=text("0"))  # under a lease, in all attempts
    requeued_at: Mapped[datetime | None]  # when its last time slice ended: the job goes to the back of the queue
    estimated_core_seconds: Mapped[float] = mapped_column(server_default=text("0"))  # at its creation
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Account(TimestampMixin, Base):
    __tablename__ = "accounts"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    revoked_at: Mapped[datetime | None]
    last_job_started_at: Mapped[datetime | None]  # for fair-share scheduling: worker/scheduler.py
    max_cost_core_hours: Mapped[float | None]  # NULL: the setting of this name


class AccountUsage(Base):
    """Core seconds that an account's jobs used on one day (UTC), cancelled and failed jobs included."""

    __tablename__ = "account_usage"

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    core_seconds: Mapped[float]


class Token(TimestampMixin, Base):
    """A bearer token, stored as a keyed hash. The id names it in lists and commands and is no secret."""

    __tablename__ = "tokens"

    hash: Mapped[bytes] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    label: Mapped[str] = mapped_column(server_default=text("''"))  # what it is for, in its owner's words
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
    """A protection key. A drawn or explicit key has an `encrypted_secret`. A trained key has a `wrapped_key` from its
    request on, and its weights in a blob encrypted under that data key. A destroyed key keeps its row without either.

    A drawn or explicit key is inserted as `succeeded`; a trained one follows the job states. The API shows `ready` for
    succeeded, `training` while active, and `destroyed` once destroyed_at is set.
    """

    __tablename__ = "keys"
    __table_args__ = (
        CheckConstraint(f"status IN ({_STATUSES})", name="status"),
        Index("ix_keys_account_id_id", "account_id", "id"),
        Index("ix_keys_active", "status", "lease_until", postgresql_where=text(f"status IN ({_ACTIVE_STATUSES})")),
        Index("ix_keys_checkpoints", "id", postgresql_where=text("checkpoint_wrapped_key IS NOT NULL")),
        Index("ix_keys_trained", "account_id", "scheme", "id", postgresql_where=text("training_request IS NOT NULL")),
        Index("ix_keys_leftover", "id", postgresql_where=text("destroyed_at IS NOT NULL AND weights_blob IS NOT NULL")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    scheme: Mapped[str]
    params: Mapped[dict[str, Any]]
    encrypted_secret: Mapped[bytes | None]  # envelope with purpose "key"
    wrapped_key: Mapped[bytes | None]  # the envelope's wrapped data key alone; its body is the blob
    weights_blob: Mapped[str | None]  # of a destroyed key: until the blob is deleted
    width: Mapped[int | None]  # explicit maps fit images of this size only
    height: Mapped[int | None]
    uses: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    provenance: Mapped[dict[str, Any] | None]
    training_request: Mapped[dict[str, Any] | None]  # dataset, profile, seed; seed_bits of keys drawn by 0.1
    # The evaluation that trains this key for its cells; the key outlives it.
    evaluation_id: Mapped[str | None] = mapped_column(ForeignKey("evaluations.id", ondelete="SET NULL"), index=True)
    destroyed_at: Mapped[datetime | None]


class Dataset(TimestampMixin, Base):
    """An uploaded dataset; the built-in ones have no row."""

    __tablename__ = "datasets"
    __table_args__ = (Index("ix_datasets_account_id_id", "account_id", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    name: Mapped[str]
    kind: Mapped[str] = mapped_column(String(16))  # plain, protected, reconstructed
    train_count: Mapped[int]
    test_count: Mapped[int]
    width: Mapped[int]
    height: Mapped[int]
    classes: Mapped[list[str]]
    has_originals: Mapped[bool] = mapped_column(server_default=text("false"))
    blob: Mapped[str]  # npz of train, train_labels, test, test_labels and, with originals, their plain images
    pixel_bytes: Mapped[int] = mapped_column(BigInteger)
    note: Mapped[str] = mapped_column(server_default=text("''"))  # conversions and skipped files, counted
    # Whether a classifier can learn from the training images and be tested on the test images.
    labelled: Mapped[bool] = mapped_column(server_default=text("false"))


class Evaluation(TimestampMixin, Base):
    __tablename__ = "evaluations"
    __table_args__ = (
        CheckConstraint(f"status IN ({_STATUSES})", name="status"),
        Index("ix_evaluations_account_id_id", "account_id", "id"),
        Index("ix_evaluations_account_id_board_computed_by_id", "account_id", "board_computed_by", "id"),
        Index("ix_evaluations_active", "id", postgresql_where=text("finished_at IS NULL")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    name: Mapped[str]
    status: Mapped[str] = mapped_column(String(16))
    settings: Mapped[dict[str, Any]]  # every resolved setting
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    # Sequence number of the last event: every change of the status or of a cell appends one.
    event_seq: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    tags: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    notes: Mapped[str] = mapped_column(server_default=text("''"))
    # Edits of name, tags and notes, which append no event: an ended evaluation has no further ones.
    edit_count: Mapped[int] = mapped_column(server_default=text("0"))
    # of an ended evaluation, for lists: the evidence of its cells has megabytes
    verdicts: Mapped[dict[str, Any] | None]
    # The rules and version that wrote its board entries, which may be none; NULL: not written yet.
    board_computed_by: Mapped[str | None]


class BoardEntry(Base):
    """One aspect of a scheme of a finished evaluation, such as its verdict under one threat model: app/board."""

    __tablename__ = "board_entries"
    __table_args__ = (
        Index(
            "ix_board_entries_lowest_rank",
            "account_id", "computed_by", "aspect", "dataset_sha256", "scheme_key", "rank", text("evaluation_id DESC"),
        ),
        # Counts and lists evaluations without reading the wide rows.
        Index(
            "ix_board_entries_verdicts",
            "account_id", "computed_by", "dataset_sha256", "scheme_key",
            postgresql_include=["evaluation_id", "dataset", "profile", "measured_at"],
            postgresql_where=text("aspect = 'verdict'"),
        ),
    )  # fmt: skip

    evaluation_id: Mapped[str] = mapped_column(ForeignKey("evaluations.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)  # of the scheme in the evaluation
    aspect: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    dataset: Mapped[str]  # its name when the evaluation was created
    dataset_sha256: Mapped[str]
    profile: Mapped[str]
    computed_by: Mapped[str]  # as in the evaluation
    measured_at: Mapped[datetime]
    scheme_key: Mapped[str]  # equal for equal schemes with equal settings
    sort_key: Mapped[list[float]] = mapped_column("rank")  # the board shows the lowest
    value: Mapped[dict[str, Any]]


class Cell(JobMixin, Base):
    """One scheme under one attack."""

    __tablename__ = "cells"
    __table_args__ = (
        UniqueConstraint("evaluation_id", "position"),
        CheckConstraint(f"status IN ({_STATUSES})", name="status"),
        Index("ix_cells_active", "status", "lease_until", postgresql_where=text(f"status IN ({_ACTIVE_STATUSES})")),
        Index("ix_cells_checkpoints", "id", postgresql_where=text("checkpoint_wrapped_key IS NOT NULL")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    evaluation_id: Mapped[str] = mapped_column(ForeignKey("evaluations.id", ondelete="CASCADE"))
    position: Mapped[int]
    scheme: Mapped[dict[str, Any]]  # {"name", resolved settings..., maybe "key_id", or "dataset" and its name}
    attack: Mapped[dict[str, Any]]  # {"name", resolved settings...}
    threat_model: Mapped[str]
    requested: Mapped[bool] = mapped_column(server_default=true())  # False: added because the profile requires it
    result: Mapped[dict[str, Any] | None]


class Sample(Base):
    """A stored triple of lossless PNGs."""

    __tablename__ = "samples"

    cell_id: Mapped[str] = mapped_column(ForeignKey("cells.id", ondelete="CASCADE"), primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    ssim: Mapped[float | None]
    plain: Mapped[bytes | None]  # NULL where a protected dataset was uploaded without originals
    protected: Mapped[bytes]
    reconstructed: Mapped[bytes]


class Scores(Base):
    """Per-image values of a cell, one row for each cell: arrays in the order of `index`, pooled over keys."""

    __tablename__ = "scores"

    cell_id: Mapped[str] = mapped_column(ForeignKey("cells.id", ondelete="CASCADE"), primary_key=True)
    index: Mapped[list[int]]
    ssim: Mapped[list[float]]
    psnr: Mapped[list[float]]
    rank: Mapped[list[float]]  # in the identification gallery, mean over keys
    vif: Mapped[list[float] | None]  # NULL: not measured


class ImageSet(Base):
    """Images of one size, one after another in one value: cells of an evaluation that show the same images share it."""

    __tablename__ = "image_sets"

    evaluation_id: Mapped[str] = mapped_column(ForeignKey("evaluations.id", ondelete="CASCADE"), primary_key=True)
    digest: Mapped[bytes] = mapped_column(primary_key=True)  # SHA-256 of numbers, size and pixels
    height: Mapped[int]
    width: Mapped[int]
    numbers: Mapped[list[int]]  # of the images, in the order of `pixels`
    pixels: Mapped[bytes]  # RGB, 8 bits; storage EXTERNAL, so that `substr` reads one image without the others


class CellImages(Base):
    """What a cell keeps of every attacked image, under its first key: scores, line-up, and the sets that hold images.

    The five gallery images of a line-up lie one image after another in `nearest`, `nearest_similarity` and
    `nearest_is_own`: see models/metrics/line_up.py.
    """

    __tablename__ = "cell_images"

    cell_id: Mapped[str] = mapped_column(ForeignKey("cells.id", ondelete="CASCADE"), primary_key=True)
    image_count: Mapped[int]  # attacked images, stored or not
    # digests of image sets; NULL: unknown originals, or an attack that reconstructs nothing
    originals: Mapped[bytes | None]
    protected: Mapped[bytes | None]
    reconstructed: Mapped[bytes | None]
    ssim: Mapped[list[float] | None]
    comparison: Mapped[str | None]  # of the line-up; NULL: without originals
    rank: Mapped[list[int] | None]
    own_similarity: Mapped[list[float] | None]
    nearest: Mapped[list[int] | None]  # numbers of originals, -1 where there are fewer candidates
    nearest_similarity: Mapped[list[float] | None]
    nearest_is_own: Mapped[list[bool] | None]


class Curve(Base):
    """Points [[step, value], ...] of one named curve of a cell (losses, SSIM by number of ciphertexts)."""

    __tablename__ = "curves"

    cell_id: Mapped[str] = mapped_column(ForeignKey("cells.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    points: Mapped[list[Any]]


class Event(TimestampMixin, Base):
    """An event of an evaluation. `seq` counts in commit order: it is the evaluation's `event_seq` of that commit."""

    __tablename__ = "events"

    evaluation_id: Mapped[str] = mapped_column(ForeignKey("evaluations.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    type: Mapped[str] = mapped_column(String(16))  # progress, cell, metric, status
    data: Mapped[dict[str, Any]]


class Share(TimestampMixin, Base):
    """A link with which everybody can read one evaluation, stored as a keyed hash. A revoked one has no row."""

    __tablename__ = "shares"

    hash: Mapped[bytes] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    evaluation_id: Mapped[str] = mapped_column(ForeignKey("evaluations.id", ondelete="CASCADE"), index=True)
    expires_at: Mapped[datetime]
    images: Mapped[bool]


class Webhook(TimestampMixin, Base):
    """A URL that the service informs of events of an account: app/webhooks."""

    __tablename__ = "webhooks"
    __table_args__ = (Index("ix_webhooks_account_id_id", "account_id", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    url: Mapped[str]
    events: Mapped[list[str]]
    encrypted_secret: Mapped[bytes]  # envelope with purpose "webhook"


class WebhookDelivery(TimestampMixin, Base):
    """An event for a webhook: inserted in the transaction of the event, sent by app/webhooks/sender.py."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint("status IN ('pending', 'delivered', 'failed')", name="status"),
        Index("ix_webhook_deliveries_webhook_id_id", "webhook_id", "id"),
        Index("ix_webhook_deliveries_due", "next_attempt_at", postgresql_where=text("next_attempt_at IS NOT NULL")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    evaluation_id: Mapped[str] = mapped_column(ForeignKey("evaluations.id", ondelete="CASCADE"), index=True)
    event: Mapped[str]
    status: Mapped[str] = mapped_column(String(16), server_default=text("'pending'"))
    attempts: Mapped[int] = mapped_column(server_default=text("0"))  # fencing token: each claim increments it
    response_status: Mapped[int | None]
    error: Mapped[str] = mapped_column(server_default=text("''"))
    # While an attempt runs: when another process may try again. NULL: the delivery has ended.
    next_attempt_at: Mapped[datetime | None] = mapped_column(server_default=func.clock_timestamp())
    finished_at: Mapped[datetime | None]


class SigningKey(TimestampMixin, Base):
    """A public key that reports were signed with; the private one is derived from a master key of the key ring."""

    __tablename__ = "signing_keys"

    public_key: Mapped[bytes] = mapped_column(primary_key=True)


class EvaluationArtifact(TimestampMixin, Base):
    """A result that the jobs of an evaluation share, such as controls or a classifier: see worker/single_flight.py."""

    __tablename__ = "evaluation_artifacts"

    evaluation_id: Mapped[str] = mapped_column(ForeignKey("evaluations.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    owner_job_id: Mapped[str]  # the cell or key that computes it
    attempt: Mapped[int]  # the owner's attempt
    sealed: Mapped[bytes | None]  # envelope with purpose "shared", id = evaluation id/name; NULL until it is computed


class IdempotencyRecord(TimestampMixin, Base):
    """An Idempotency-Key that an account has used, with the stored response; without one while the request runs."""

    __tablename__ = "idempotency"

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]  # SHA-256 of method, route and body
    reserved_ids: Mapped[dict[str, Any]]  # fixed before the work, so that a retry creates the same rows
    status: Mapped[int | None] = mapped_column(Integer)
    body: Mapped[dict[str, Any] | None]
    headers: Mapped[dict[str, Any] | None]
    locked_until: Mapped[datetime]


class ProcessHeartbeat(Base):
    """The last heartbeat of a worker or an API process, by the database's clock."""

    __tablename__ = "process_heartbeats"

    name: Mapped[str] = mapped_column(primary_key=True)
    queues: Mapped[list[str]]  # ["api"] for an API process
    seen_at: Mapped[datetime]
    master_key_version: Mapped[int | None]  # of the master key that the process encrypts with
    concurrency: Mapped[int | None]
    lease_recoveries: Mapped[int | None]  # jobs taken over from lost workers since the process started
    gpus: Mapped[list[Any] | None]  # [{"name", "use", "memory_used", "memory"}], use 0..1, memory in bytes
