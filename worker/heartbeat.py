"""Heartbeat of a worker's main process into the table `workers`, which health checks read."""

from __future__ import annotations

import logging

from sqlalchemy.exc import DBAPIError

from unveil.app.db.heartbeats import ATTACK, arrival, leave
from unveil.app.db.session import sync_engine
from unveil.app.security.envelope import load_key_ring
from unveil.app.settings import Settings
from unveil.worker import counts, gpus
from unveil.worker.periodic import Regular

log = logging.getLogger(__name__)


class Presence(Regular):
    def __init__(self, settings: Settings, name: str, queues: list[str], slots: int = 1) -> None:
        super().__init__("presence", settings.heartbeat_s)
        self._engine, self._ring = sync_engine(settings), load_key_ring(settings)
        self._worker, self._queues, self._slots = name, queues, slots

    def act(self) -> None:
        said = {
            "slots": self._slots,
            "recoveries": counts.recoveries.total(),
            "gpus": gpus.look() if ATTACK in self._queues else None,
        }
        with self._engine.begin() as connection:
            connection.execute(arrival(self._worker, ",".join(self._queues), self._ring.current, **said))

    def stop(self) -> None:
        """Leave the list at once, rather than by silence."""
        super().stop()
        try:
            with self._engine.begin() as connection:
                connection.execute(leave(self._worker))
        except DBAPIError as away:
            log.warning("cannot say that this worker leaves: %s", away.orig)
        self._engine.dispose()
