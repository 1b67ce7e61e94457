"""The Celery application of the workers. Imports no torch: only a pool process does, when a job needs it.

celery --app worker.celery_app worker --queues attack --concurrency 1
celery --app worker.celery_app worker --queues encrypt,ops --beat
"""

from __future__ import annotations

from typing import Any

from celery import signals

from app import queue
from app.settings import get_settings
from worker import shutdown
from worker.presence import Presence

celery = queue.celery_app(get_settings())
celery.conf.update(
    imports=["worker.tasks"],
    worker_pool_start_method="spawn",  # CUDA does not survive a fork; and no connection is inherited
    worker_cancel_long_running_tasks_on_connection_loss=False,  # the row's lease rules, not the broker's connection
)

_presence: list[Presence] = []


@signals.worker_ready.connect
def _started(sender: Any, **_: Any) -> None:
    """In the main process: say that we are there, and look for what an earlier worker left."""
    presence = Presence(get_settings(), str(sender.hostname), sorted(celery.amqp.queues.consume_from))
    presence.start()
    _presence.append(presence)
    celery.send_task(queue.SWEEP, expires=get_settings().sweep_s)


@signals.worker_shutting_down.connect
def _stopping(**_: Any) -> None:
    """In the main process: the pool hands its jobs back now, instead of working through them."""
    shutdown.tell_pool()


@signals.worker_shutdown.connect
def _stopped(**_: Any) -> None:
    for presence in _presence:
        presence.stop()


@signals.worker_process_init.connect
def _pool_process_started(**_: Any) -> None:
    shutdown.install()
