"""What a service holds: rows by table, blobs, and keys in Redis. What a refused request must leave as it was."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import redis
from sqlalchemy import Engine, func, select

from unveil.app.db.tables import Base, ProcessHeartbeat
from unveil.app.settings import Settings

_TRANSIENT_PREFIX = b"unveil:rate:"


def count_stored(engine: Engine, settings: Settings) -> Counter[str]:
    counts: Counter[str] = Counter()
    with engine.connect() as connection:
        for table in Base.metadata.sorted_tables:
            if table.name != ProcessHeartbeat.__tablename__:
                counts[table.name] = connection.scalar(select(func.count()).select_from(table)) or 0
    blobs = Path(settings.blob_url.removeprefix("file://"))
    counts["blobs"] = sum(path.is_file() for path in blobs.rglob("*"))
    with redis.Redis.from_url(settings.redis_url) as client:
        keys = client.keys()
    counts["redis"] = sum(key.startswith(b"unveil:") and not key.startswith(_TRANSIENT_PREFIX) for key in keys)
    return counts
