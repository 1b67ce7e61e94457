"""The Python client of Unveil.

    from app.client import Client

    with Client("http://127.0.0.1:8000", token) as unveil:
        protected = unveil.encrypt(["cat.png"], scheme="tanaka")
        evaluation = unveil.evaluations.create(schemes=["tanaka"], attacks=["none", "fr"], dataset="sample").wait()

It imports neither torch nor the service. Errors:

    UnveilError
      Unreachable            nobody answers at the address
      TimedOut               `wait(timeout=...)` ran out; the evaluation goes on
      ProblemError           the service said no: status, code, detail, errors
        Unauthenticated  Forbidden  NotFound  Conflict  Gone  TooLarge  Invalid  TooMany  ServerProblem
"""

from app.client.client import Client, Datasets, Evaluations, Keys
from app.client.errors import (
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
from app.client.evaluation import Cell, Evaluation, Event
from app.client.images import Image, Images

__all__ = [
    "Cell",
    "Client",
    "Conflict",
    "Datasets",
    "Evaluation",
    "Evaluations",
    "Event",
    "Forbidden",
    "Gone",
    "Image",
    "Images",
    "Invalid",
    "Keys",
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
