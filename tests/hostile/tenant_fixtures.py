"""What a service holds: rows by table, blobs, and keys in Redis. What a refused request must leave as it was."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import redis
from sqlalchemy import Engine, func, select

from unveil.app.db.tables import Base, Worker
from unveil.app.settings import Settings

_PASSING = b"unveil:rate:"


def holdings(engine: Engine, settings: Settings) -> Counter[str]:
    found: Counter[str] = Counter()
    with engine.connect() as connection:
        for table in Base.metadata.sorted_tables:
            if table.name != Worker.__tablename__:
                found[table.name] = connection.scalar(select(func.count()).select_from(table)) or 0
    blobs = Path(settings.blob_url.removeprefix("file://"))
    found["blobs"] = sum(path.is_file() for path in blobs.rglob("*"))
    with redis.Redis.from_url(settings.redis_url) as client:
        keys = client.keys()
    found["redis"] = sum(key.startswith(b"unveil:") and not key.startswith(_PASSING) for key in keys)
    return found
