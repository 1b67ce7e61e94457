"""Retention: deletes old evaluations, orphaned blobs, and expired codes, sessions, links and idempotency records."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from unveil.app.db.tables import Base, DashboardSession, Evaluation, IdempotencyRecord, Share, SignInCode
from unveil.app.ops.storage_gc import find_orphaned_blobs
from unveil.app.settings import Settings
from unveil.app.storage import BlobStore

_MAX_UPLOAD_DURATION = timedelta(days=1)  # far above the duration of any upload


def delete_expired(session: Session, settings: Settings, age: timedelta, *, dry_run: bool = False) -> dict[str, int]:
    """Delete, or with `dry_run` only count. Rows go before blobs, so that a run after a crash deletes the rest."""
    now, blobs = func.clock_timestamp(), BlobStore(settings)
    # A retry within this time creates its rows and blobs under the ids that the first try reserved.
    retry_window = timedelta(hours=settings.idempotency_ttl_hours) + _MAX_UPLOAD_DURATION
    rules: dict[str, tuple[type[Base], ColumnElement[bool]]] = {
        "evaluations": (Evaluation, Evaluation.finished_at < now - age),
        "sign-in codes": (SignInCode, SignInCode.expires_at < now),
        "dashboard sessions": (DashboardSession, DashboardSession.expires_at < now),
        "share links": (Share, Share.expires_at < now),
        "idempotency records": (IdempotencyRecord, IdempotencyRecord.locked_until < now - retry_window),
    }
    counts: dict[str, int] = {}
    for name, (table, expired) in rules.items():
        counts[name] = session.scalar(select(func.count()).select_from(table).where(expired)) or 0
        if not dry_run:
            result: Any = session.execute(delete(table).where(expired))
            counts[name] = result.rowcount
    session.commit()
    orphans = list(find_orphaned_blobs(session, blobs, retry_window.total_seconds()))
    counts["orphaned blobs"] = len(orphans)
    if not dry_run:
        for name in orphans:
            blobs.delete(name)
    return counts
