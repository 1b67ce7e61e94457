"""Limits on the memory of worker processes: a job that needs more fails with a message.

Without a limit the kernel kills the process, and the job takes down one process after another until it is poison.
"""

from __future__ import annotations

import logging
import resource
from contextlib import suppress
from pathlib import Path

import psutil

from unveil.app.settings import Settings
from unveil.models.core.device import has_gpu_driver

log = logging.getLogger(__name__)

_FREE_SHARE = 0.9  # of the memory that is free when the worker starts, for all its processes together
_MIN_LIMIT_BYTES = 4 * 10**9  # where that is free: many processes do not need their peak at once
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_OOM_SCORE_ADJ = 800  # -1000 to 1000: the kernel kills a job before the database, the API and other workers


def limit_memory(settings: Settings, processes: int) -> int | None:
    """Limit this process and those that it starts; the limit in bytes. Call in the main process of a worker."""
    limit = settings.job_memory_bytes
    if limit is None and settings.device != "cpu" and has_gpu_driver():  # the driver maps far more memory than it uses
        return None
    if limit is None:
        usable = int(_FREE_SHARE * _free_bytes())
        limit = max(usable // max(1, processes), min(_MIN_LIMIT_BYTES, usable))
    _, hard_limit = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard_limit))
    log.info("each process may use %.1f GB of memory", limit / 1e9)
    return limit


def prefer_as_oom_victim() -> None:
    """Call in a process that runs jobs."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE_ADJ))


def _free_bytes() -> int:
    free = psutil.virtual_memory().available
    with suppress(OSError, ValueError):  # no control group, or the word max
        free = min(free, int(_CGROUP_LIMIT.read_text()))
    return free
