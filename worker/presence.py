"""Heartbeat of a worker's main process into the table `workers`, which health checks read."""

from __future__ import annotations

import logging

from sqlalchemy import delete, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from app.db.session import sync_engine
from app.db.tables import Worker
from app.settings import Settings
from worker.regular import Regular

log = logging.getLogger(__name__)


class Presence(Regular):
    def __init__(self, settings: Settings, name: str, queues: list[str]) -> None:
        super().__init__("presence", settings.heartbeat_s)
        self._engine = sync_engine(settings)
        self._worker, self._queues = name, ",".join(queues)

    def act(self) -> None:
        seen = {"queue": self._queues, "seen_at": func.clock_timestamp()}
        with self._engine.begin() as connection:
            connection.execute(
                insert(Worker)
                .values(name=self._worker, **seen)
                .on_conflict_do_update(index_elements=["name"], set_=seen)
            )

    def stop(self) -> None:
        """Leave the list at once, rather than by silence."""
        super().stop()
        try:
            with self._engine.begin() as connection:
                connection.execute(delete(Worker).where(Worker.name == self._worker))
        except DBAPIError as away:
            log.warning("cannot say that this worker leaves: %s", away.orig)
        self._engine.dispose()
