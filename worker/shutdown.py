"""Orderly shutdown of a pool process: release the job instead of finishing it.

The main process sends SIGUSR2 to its pool when it stops. A service manager may also send SIGTERM to every process of
the group: a busy pool process treats it like SIGUSR2, an idle one exits.
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
    """While a job runs, or a caller waits for a reply."""
    _in_flight_event.set()
    try:
        yield
    finally:
        _in_flight_event.clear()


def block_shutdown_signal() -> None:
    """Call in the main process before it starts the pool. A pool process inherits the blocked signal, which would kill
    it before it has a handler."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})


def install_shutdown_handler() -> None:
    """Call when a pool process starts."""
    signal.signal(signal.SIGUSR2, _on_shutdown_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})


def install_sigterm_handler() -> None:
    """Call before each task: billiard installs a handler of its own, which exits, after the process has started."""
    signal.signal(signal.SIGTERM, _on_sigterm)


def signal_pool() -> None:
    """Call in the main process when it stops."""
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
