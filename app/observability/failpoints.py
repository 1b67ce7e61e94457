"""Fault injection: with UNVEIL_CRASH_POINT=NAME, the process that reaches `failpoint(NAME)` kills its process group;
with UNVEIL_HANG_POINT=NAME, its thread loops there until the process ends.

Tests use it to show that no crash between two writes loses anything. The whole group is killed, because a Celery worker
would otherwise replace its pool process, which would die at the same failpoint.
"""

from __future__ import annotations

import os
import signal


def failpoint(name: str) -> None:
    if os.environ.get("UNVEIL_CRASH_POINT") == name:
        os.killpg(0, signal.SIGKILL)
    while os.environ.get("UNVEIL_HANG_POINT") == name:
        pass
