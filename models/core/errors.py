"""Errors that end a cell or the training of a key."""

from __future__ import annotations


class AttackFailed(Exception):
    """The material does not suffice, or does not fit the scheme; the message says what is missing."""


class TrainingFailed(AttackFailed):
    """It is not known what a network would have learned: it diverged, or the device had too little memory."""


class Cancelled(Exception):
    """Raised out of a progress callback: stop now, keep the last checkpoint."""
