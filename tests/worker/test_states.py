"""Whatever workers, owners and sweepers do in whatever order: only allowed transitions, and every change an event."""

from __future__ import annotations

from tests.worker.history import run_histories


def test_every_history_keeps_to_the_state_machine(runtime, account):
    """`make chaos` has a thousand of them."""
    assert run_histories(runtime, account, count=25, max_steps=10) >= 25
