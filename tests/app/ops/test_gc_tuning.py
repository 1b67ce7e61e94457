"""The service sets Python up for itself, and leaves it as it was."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest

from tests.app.service import run_service
from unveil.app.ops import gc_tuning
from unveil.app.settings import Settings

TUNED_GC = gc_tuning.tuned_gc  # tests/conftest.py replaces it once the tests run


@pytest.fixture(autouse=True)
def as_in_the_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(gc_tuning, "tuned_gc", TUNED_GC)
    gc.unfreeze()
    yield
    gc.freeze()


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
