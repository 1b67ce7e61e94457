"""The service sets Python up for itself, and leaves it as it was."""

from __future__ import annotations

import gc
import sys

import pytest

from tests.app.service import run_service
from unveil.app.ops import gc_tuning
from unveil.app.settings import Settings


def state() -> tuple[int, int, float]:
    return gc.get_threshold()[0], gc.get_freeze_count(), sys.getswitchinterval()


@pytest.mark.anyio
async def test_while_the_service_runs_collections_are_rare_and_leave_out_what_was_loaded(settings: Settings) -> None:
    before = state()
    async with run_service(settings):
        threshold, frozen, switch_s = state()
        assert threshold > before[0]
        assert frozen > 10_000
        assert switch_s < before[2]
    assert state() == before


def test_a_fault_leaves_python_as_it_was() -> None:
    before = state()
    with pytest.raises(RuntimeError), gc_tuning.tuned_gc():
        raise RuntimeError
    assert state() == before
