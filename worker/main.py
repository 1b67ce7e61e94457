"""The Celery application of the workers. Imports no torch: only a pool process does, when a job needs it.

celery --app worker.celery_app worker --queues attack --concurrency 1
celery --app worker.celery_app worker --queues encrypt,ops
"""

from __future__ import annotations

import os
from typing import Any

from celery import signals

from unveil.app import broker
from unveil.app.db.heartbeats import OPS
from unveil.app.observability.logging import configure_logging
from unveil.app.settings import get_settings
from unveil.worker import shutdown, warmup
from unveil.worker.heartbeat import Presence
from unveil.worker.periodic import Regular

celery = broker.celery_app(get_settings())
celery.conf.update(
    imports=["unveil.worker.tasks"],
    worker_pool_start_method="spawn",  # CUDA does not survive a fork; and no connection is inherited
    # A fresh interpreter takes its time on a busy machine: after Celery's 4 s it would be killed, and the next one too.
    worker_proc_alive_timeout=120.0,
    worker_cancel_long_running_tasks_on_connection_loss=False,  # the row's lease rules, not the broker's connection
)

_BEHIND = 5  # who computes lets those go first that answer: service, database, broker

_regulars: list[Regular] = []


@signals.setup_logging.connect
def _log(**_: Any) -> None:
    """In every process of the worker, in the place of Celery's own lines."""
    configure_logging()


@signals.worker_init.connect
def _starting(**_: Any) -> None:
    """In the main process, before there is a pool."""
    shutdown.hold()


@signals.worker_ready.connect
def _started(sender: Any, **_: Any) -> None:
    """In the main process: say that we are there; whoever serves `ops` sweeps."""
    settings, queues = get_settings(), sorted(celery.amqp.queues.consume_from)
    _regulars.append(Presence(settings, str(sender.hostname), queues, sender.controller.concurrency))
    if OPS in queues:
        from unveil.worker.sweeper import Sweeper

        _regulars.append(Sweeper(settings))
    for regular in _regulars:
        regular.start()


@signals.worker_shutting_down.connect
def _stopping(**_: Any) -> None:
    """In the main process: the pool hands its jobs back now, instead of working through them."""
    shutdown.tell_pool()


@signals.worker_shutdown.connect
def _stopped(**_: Any) -> None:
    for regular in _regulars:
        regular.stop()


@signals.task_prerun.connect
def _task_begins(**_: Any) -> None:
    shutdown.take_term()


@signals.worker_process_init.connect
def _pool_process_started(**_: Any) -> None:
    os.nice(_BEHIND)
    shutdown.install()
    warmup.begin()
