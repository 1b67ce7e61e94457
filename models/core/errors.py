"""Errors that end a cell or the training of a key."""

from __future__ import annotations

# In the RuntimeErrors that torch raises on a CPU; the last one is oneDNN's.
OUT_OF_MEMORY_TEXTS = ("can't allocate memory", "bad_alloc", "could not create a ")


class AttackFailed(Exception):
    """The attack input is insufficient or does not fit the scheme; the message names what is missing."""


class DoesNotApply(AttackFailed):
    """The attack ran and found that it does not fit, such as pairs that no key of the scheme is consistent with."""


class TrainingFailed(AttackFailed):
    """A training ended without a usable network, such as one that diverged."""


class OutOfMemory(TrainingFailed):
    """The training needs more memory than its process or device has, even with the smallest batch."""


ATTACK_FAILURES = (OutOfMemory, TrainingFailed, DoesNotApply, AttackFailed)  # the most specific first


class Cancelled(Exception):
    """Raised by a progress callback to stop the work; the last checkpoint is kept."""


class DeadlineReached(Cancelled):
    """A training wrote a checkpoint and stopped before the deadline of its run context."""
