"""Ids sort by time, and say when they were made."""

from __future__ import annotations

import time
import uuid

import pytest

from unveil.app.db.ids import is_id, new_id, timestamp_of_id


def test_ids_of_one_millisecond_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    start = 1_790_000_000_000_000_000
    moments = iter(range(start, start + 1_000_000, 1_000))
    monkeypatch.setattr(time, "time_ns", lambda: next(moments))
    ids = [new_id("key") for _ in range(1000)]
    assert ids == sorted(set(ids))
    assert {timestamp_of_id(id) for id in ids} == {1_790_000_000.0}
    assert all(is_id(id) for id in ids)
    first = uuid.UUID(ids[0].removeprefix("key_"))
    assert (first.version, first.variant) == (7, uuid.RFC_4122)
