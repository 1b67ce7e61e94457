"""Log the start of every Python process and each import of a top-level `app`, `worker`, `models` or `migrations`.

Python imports this module at start-up from PYTHONPATH, before any code of a process runs. With the checkout root on
`sys.path`, such an import would load a second copy of the tables and tasks.
"""

import os
import sys

_LOG = os.environ.get("IMPORT_LOG")


class _Logger:
    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> None:
        if name in ("app", "worker", "models", "migrations"):
            _write(f"import {name}")


def _write(event: str) -> None:
    if _LOG is not None:
        with open(_LOG, "a") as log:  # noqa: PTH123 - pathlib would load modules that the process may not need
            log.write(f"{os.getpid()} {event} in {' '.join(sys.orig_argv)!r}\n")


_write("start")
sys.meta_path.insert(0, _Logger)
