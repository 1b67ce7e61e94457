"""The Python client of Unveil, blocking and async.

    from unveil import AsyncClient, Client

    with Client("http://127.0.0.1:8000", token) as unveil:
        protected = unveil.encrypt(["cat.png"], "tanaka")
        evaluation = unveil.evaluations.create(schemes=["tanaka"], attacks=["none", "fr"], dataset="sample").wait()

    async with AsyncClient("http://127.0.0.1:8000", token) as unveil:
        protected = await unveil.encrypt(["cat.png"], "tanaka")

It imports neither torch nor the service, and its own modules on first use: the command line starts without httpx and
NumPy. Errors, all of them in `unveil.app.client.errors`:

    UnveilError
      Unreachable            the service does not answer at the address
      TimedOut               `wait(timeout=...)` ran out; the job itself goes on
      ProblemError           the service rejected the request: status, code, detail, errors; by status
        Unauthenticated  Forbidden  NotFound  Conflict  Gone  TooLarge  Invalid  TooMany  ServerProblem
                             and below these one class for each problem code: UnknownKey, KeyDestroyed, QueueFull ...
"""

from typing import TYPE_CHECKING, Any

from unveil.app.client.errors import (
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    ProblemError,
    ServerProblem,
    TimedOut,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unreachable,
    UnveilError,
)

if TYPE_CHECKING:
    from unveil.app.client.client import AsyncClient, Client
    from unveil.app.client.evaluation import AsyncEvaluation, Evaluation, Event
    from unveil.app.client.images import Image, Images
    from unveil.app.client.key import AsyncKey, Key
    from unveil.app.report.evaluation import Cell

__all__ = [
    "AsyncClient",
    "AsyncEvaluation",
    "AsyncKey",
    "Cell",
    "Client",
    "Conflict",
    "Evaluation",
    "Event",
    "Forbidden",
    "Gone",
    "Image",
    "Images",
    "Invalid",
    "Key",
    "NotFound",
    "ProblemError",
    "ServerProblem",
    "TimedOut",
    "TooLarge",
    "TooMany",
    "Unauthenticated",
    "Unreachable",
    "UnveilError",
]

_MODULES = {
    "AsyncClient": "unveil.app.client.client",
    "AsyncEvaluation": "unveil.app.client.evaluation",
    "AsyncKey": "unveil.app.client.key",
    "Cell": "unveil.app.report.evaluation",
    "Client": "unveil.app.client.client",
    "Evaluation": "unveil.app.client.evaluation",
    "Event": "unveil.app.client.evaluation",
    "Image": "unveil.app.client.images",
    "Images": "unveil.app.client.images",
    "Key": "unveil.app.client.key",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value
