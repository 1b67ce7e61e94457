"""Process heartbeats: every process upserts its row every few seconds and deletes it on shutdown."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Delete, Select, delete, func, select
from sqlalchemy.dialects.postgresql import Insert, insert

from unveil.app.db.tables import ProcessHeartbeat

ENCRYPT_QUEUE, ATTACK_QUEUE = "encrypt", "attack"
OPS_QUEUE = "ops"  # carries no messages: its workers run the sweeper
API_QUEUE = "api"  # in the heartbeats of API processes, in place of a queue

HEARTBEAT_TTL_S = 30.0  # a process without a heartbeat for longer counts as dead


def upsert_heartbeat(name: str, queues: list[str], master_key_version: int, **columns: Any) -> Insert:
    """`columns`: further columns, such as concurrency."""
    values = {
        "queues": queues,
        "master_key_version": master_key_version,
        "seen_at": func.clock_timestamp(),
        **columns,
    }
    return (
        insert(ProcessHeartbeat).values(name=name, **values).on_conflict_do_update(index_elements=["name"], set_=values)
    )


def delete_heartbeat(name: str) -> Delete:
    return delete(ProcessHeartbeat).where(ProcessHeartbeat.name == name)


def select_live_processes() -> Select[ProcessHeartbeat]:
    ttl = func.make_interval(0, 0, 0, 0, 0, 0, HEARTBEAT_TTL_S)
    return select(ProcessHeartbeat).where(ProcessHeartbeat.seen_at > func.clock_timestamp() - ttl)
