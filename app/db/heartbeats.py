"""Process heartbeats: every process upserts its row every few seconds and deletes it on shutdown."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Delete, Select, delete, func, select
from sqlalchemy.dialects.postgresql import Insert, insert

from unveil.app.db.tables import Worker

ENCRYPT, ATTACK = "encrypt", "attack"
OPS = "ops"  # carries no messages: its workers run the sweeper
API = "api"  # what the service's processes write for a queue

FRESH_S = 30.0  # who has said nothing for longer is taken for dead


def arrival(name: str, queue: str, master_key_version: int, **told: Any) -> Insert:
    """`told`: further columns, such as slots."""
    said = {"queue": queue, "ring": master_key_version, "seen_at": func.clock_timestamp(), **told}
    return insert(Worker).values(name=name, **said).on_conflict_do_update(index_elements=["name"], set_=said)


def leave(name: str) -> Delete:
    return delete(Worker).where(Worker.name == name)


def alive() -> Select[Worker]:
    age = func.make_interval(0, 0, 0, 0, 0, 0, FRESH_S)
    return select(Worker).where(Worker.seen_at > func.clock_timestamp() - age)
