"""Periodic threads of a worker's main process. They use a monotonic clock and no broker."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod

from sqlalchemy.exc import DBAPIError

log = logging.getLogger(__name__)


class PeriodicThread(threading.Thread, ABC):
    def __init__(self, name: str, interval_s: float) -> None:
        super().__init__(name=name, daemon=True)
        self._interval_s = interval_s
        self._stop_event = threading.Event()

    @abstractmethod
    def tick(self) -> None:
        """An exception is logged; the next tick follows after the interval."""

    def run(self) -> None:
        while not self._stop_event.is_set():
            try:
                self.tick()
            except DBAPIError as error:
                log.warning("%s cannot reach the database: %s", self.name, error.orig)
            except Exception:
                log.exception("%s failed", self.name)
            self._stop_event.wait(self._interval_s)

    def stop(self) -> None:
        self._stop_event.set()
        self.join()
