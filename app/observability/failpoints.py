"""Named places between two writes where a process can be made to die, so that tests can show that nothing is lost.

UNVEIL_CRASH_POINT=NAME kills the process group that comes to the place, as a power cut would; without it nothing
happens. The whole group, or a worker would start its pool process again, to die at the same place.
"""

from __future__ import annotations

import os
import signal


def failpoint(name: str) -> None:
    if os.environ.get("UNVEIL_CRASH_POINT") == name:
        os.killpg(0, signal.SIGKILL)
