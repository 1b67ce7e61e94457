"""An orderly shutdown, inside a pool process: finish nothing long, hand the job back.

The main process sends SIGUSR2 to its pool when it is asked to stop. A service manager may also send SIGTERM to every
process of the group: a pool process that works takes it the same way, an idle one ends as it always did.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from billiard.process import active_children

requested = threading.Event()
_in_flight_event = threading.Event()


@contextmanager
def in_flight() -> Iterator[None]:
    """Marks the time in which there is something to hand back, or somebody waits for the answer."""
    _in_flight_event.set()
    try:
        yield
    finally:
        _in_flight_event.clear()


def block_shutdown_signal() -> None:
    """In the main process, before it has a pool: a pool process starts with the signal held back, for it would die of
    one that comes before its handler is there."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})


def install_shutdown_handler() -> None:
    """In a pool process, at its start."""
    signal.signal(signal.SIGUSR2, _on_shutdown_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})


def install_sigterm_handler() -> None:
    """In a pool process, before each task: at its start billiard takes SIGTERM for itself, and exits of it."""
    signal.signal(signal.SIGTERM, _on_sigterm)


def signal_pool() -> None:
    """In the main process, when it is asked to stop."""
    for child in active_children():
        if child.pid is not None:
            os.kill(child.pid, signal.SIGUSR2)


def _on_shutdown_signal(*_: Any) -> None:
    requested.set()


def _on_sigterm(*_: Any) -> None:
    requested.set()
    if not _in_flight_event.is_set():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
