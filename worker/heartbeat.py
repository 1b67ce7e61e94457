"""Heartbeat of a worker's main process, which health checks and metrics read."""

from __future__ import annotations

import logging

from sqlalchemy.exc import DBAPIError

from unveil.app.db.heartbeats import ATTACK_QUEUE, delete_heartbeat, upsert_heartbeat
from unveil.app.db.session import sync_engine
from unveil.app.security.envelope import load_keyring
from unveil.app.settings import Settings
from unveil.worker import counts, gpus
from unveil.worker.periodic import PeriodicThread

log = logging.getLogger(__name__)


class HeartbeatThread(PeriodicThread):
    def __init__(self, settings: Settings, name: str, queues: list[str], concurrency: int = 1) -> None:
        super().__init__("heartbeat", settings.heartbeat_interval_s)
        self._engine, self._keyring = sync_engine(settings), load_keyring(settings)
        self._process_name, self._queues, self._concurrency = name, queues, concurrency

    def tick(self) -> None:
        stats = {
            "concurrency": self._concurrency,
            "lease_recoveries": counts.lease_recoveries.total(),
            "gpus": gpus.query_gpus() if ATTACK_QUEUE in self._queues else None,
        }
        with self._engine.begin() as connection:
            connection.execute(
                upsert_heartbeat(self._process_name, self._queues, self._keyring.primary_version, **stats)
            )

    def stop(self) -> None:
        """Delete the row at once instead of letting it expire."""
        super().stop()
        try:
            with self._engine.begin() as connection:
                connection.execute(delete_heartbeat(self._process_name))
        except DBAPIError as error:
            log.warning("cannot delete the heartbeat of this worker: %s", error.orig)
        self._engine.dispose()
