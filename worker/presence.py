"""Heartbeat of a worker's main process into the table `workers`, which health checks read."""

from __future__ import annotations

import logging
import threading

from sqlalchemy import delete, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from app.db.session import sync_engine
from app.db.tables import Worker
from app.settings import Settings

log = logging.getLogger(__name__)


class Presence(threading.Thread):
    def __init__(self, settings: Settings, name: str, queues: list[str]) -> None:
        super().__init__(name="presence", daemon=True)
        self._engine = sync_engine(settings)
        self._every_s = settings.heartbeat_s
        self._worker, self._queues = name, ",".join(queues)
        self._over = threading.Event()

    def run(self) -> None:
        while True:
            try:
                self._say()
            except DBAPIError as away:  # the next one may reach it
                log.warning("cannot say that this worker is alive: %s", away.orig)
            if self._over.wait(self._every_s):
                return

    def stop(self) -> None:
        """Leave the list at once, rather than by silence."""
        self._over.set()
        self.join()
        try:
            with self._engine.begin() as connection:
                connection.execute(delete(Worker).where(Worker.name == self._worker))
        except DBAPIError as away:
            log.warning("cannot say that this worker leaves: %s", away.orig)
        self._engine.dispose()

    def _say(self) -> None:
        seen = {"queue": self._queues, "seen_at": func.clock_timestamp()}
        with self._engine.begin() as connection:
            connection.execute(
                insert(Worker)
                .values(name=self._worker, **seen)
                .on_conflict_do_update(index_elements=["name"], set_=seen)
            )
