"""The one state machine of jobs: evaluations, their cells and trained keys.

queued -> running -> succeeded | failed | not_applicable
  |         |  \\-> queued                (lease lost, or released at shutdown)
  |         \\-> cancelling -> cancelled | succeeded | failed | not_applicable
  \\-> cancelled                          (never claimed)
not_applicable: cells only; the plan or the attack itself found that it cannot run
"""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    NOT_APPLICABLE = "not_applicable"


TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.RUNNING, Status.CANCELLED, Status.FAILED}),
    Status.RUNNING: frozenset(
        {
            Status.SUCCEEDED,
            Status.FAILED,
            Status.NOT_APPLICABLE,
            Status.QUEUED,
            Status.CANCELLING,
            Status.CANCELLED,
        }
    ),
    # what finished before it saw the flag keeps its result
    Status.CANCELLING: frozenset({Status.CANCELLED, Status.SUCCEEDED, Status.FAILED, Status.NOT_APPLICABLE}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
    Status.NOT_APPLICABLE: frozenset(),
}

TERMINAL = frozenset(status for status, following in TRANSITIONS.items() if not following)
ACTIVE = frozenset(TRANSITIONS) - TERMINAL
COMPLETED = TERMINAL - {Status.CANCELLED}  # counts as 100 % progress


def allowed_predecessors(target: Status) -> frozenset[Status]:
    """The statuses from which `target` may be entered: the WHERE of a compare-and-set."""
    return frozenset(status for status, following in TRANSITIONS.items() if target in following)


def aggregate_status(cells: list[Status]) -> Status | None:
    """How an evaluation ends when all its cells have; None while one has not."""
    if any(cell not in TERMINAL for cell in cells):
        return None
    if Status.FAILED in cells:
        return Status.FAILED
    return Status.CANCELLED if Status.CANCELLED in cells else Status.SUCCEEDED
