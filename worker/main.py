"""The Celery application of the workers. Imports no torch: a pool process does, when a job needs it.

celery --app unveil.worker.main worker --queues attack --concurrency 1
celery --app unveil.worker.main worker --queues encrypt,ops
"""

from __future__ import annotations

import os
from typing import Any

from celery import signals

from unveil.app import broker
from unveil.app.db.heartbeats import OPS_QUEUE
from unveil.app.observability.logging import configure_logging
from unveil.app.settings import get_settings
from unveil.worker import shutdown, warmup
from unveil.worker.heartbeat import HeartbeatThread
from unveil.worker.memory import limit_memory
from unveil.worker.periodic import PeriodicThread

celery = broker.make_celery_app(get_settings())
celery.conf.update(
    imports=["unveil.worker.tasks"],
    worker_pool_start_method="spawn",  # CUDA does not survive a fork, and connections must not be inherited
    # On a busy machine a new interpreter takes longer than Celery's 4 s, and Celery would kill every one it starts.
    worker_proc_alive_timeout=120.0,
    worker_cancel_long_running_tasks_on_connection_loss=False,  # the lease decides, not the connection to the broker
)

_NICE_INCREMENT = 5  # workers yield the CPU to API, PostgreSQL and Redis on a shared host

_periodic_threads: list[PeriodicThread] = []


@signals.setup_logging.connect
def _configure_logging(**_: Any) -> None:
    """Replaces Celery's logging in every process of the worker."""
    configure_logging()


@signals.worker_init.connect
def _on_worker_init(sender: Any, **_: Any) -> None:
    """In the main process, before it starts the pool."""
    shutdown.block_shutdown_signal()
    limit = limit_memory(get_settings(), sender.concurrency or os.cpu_count() or 1)
    if limit is not None:
        # The heap of a process that came near its limit is in pieces: the pool replaces the process after such a job.
        sender.max_memory_per_child = limit // 2 // 1024  # in KiB, resident


@signals.worker_ready.connect
def _on_worker_ready(sender: Any, **_: Any) -> None:
    """In the main process: start the heartbeat and, for the queue `ops`, the sweeper."""
    settings, queues = get_settings(), sorted(celery.amqp.queues.consume_from)
    _periodic_threads.append(HeartbeatThread(settings, str(sender.hostname), queues, sender.controller.concurrency))
    if OPS_QUEUE in queues:
        from unveil.worker.sweeper import Sweeper

        _periodic_threads.append(Sweeper(settings))
    for thread in _periodic_threads:
        thread.start()


@signals.worker_shutting_down.connect
def _on_worker_shutting_down(**_: Any) -> None:
    """In the main process: pool processes release their jobs instead of finishing them."""
    shutdown.signal_pool()


@signals.worker_shutdown.connect
def _on_worker_shutdown(**_: Any) -> None:
    for thread in _periodic_threads:
        thread.stop()


@signals.task_prerun.connect
def _on_task_prerun(**_: Any) -> None:
    shutdown.install_sigterm_handler()


@signals.worker_process_init.connect
def _on_process_init(**_: Any) -> None:
    os.nice(_NICE_INCREMENT)
    shutdown.install_shutdown_handler()
    warmup.start_warmup()
