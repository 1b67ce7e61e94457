"""Something that a worker's main process does every so often, in a thread: on no wall clock, and without the broker."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod

from sqlalchemy.exc import DBAPIError

log = logging.getLogger(__name__)


class Regular(threading.Thread, ABC):
    def __init__(self, name: str, every_s: float) -> None:
        super().__init__(name=name, daemon=True)
        self._every_s = every_s
        self._over = threading.Event()

    @abstractmethod
    def act(self) -> None:
        """What fails now is done again the next time."""

    def run(self) -> None:
        while not self._over.is_set():
            try:
                self.act()
            except DBAPIError as away:
                log.warning("%s cannot reach the database: %s", self.name, away.orig)
            except Exception:
                log.exception("%s failed", self.name)
            self._over.wait(self._every_s)

    def stop(self) -> None:
        self._over.set()
        self.join()
