"""How far an evaluation has come, and how long it still takes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from unveil.app.db.job_states import Status
from unveil.app.jobs.eta import Work, fraction, seconds_left

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def work(kind: str, status: Status, progress: float = 0.0, *, began: float = 0.0, took: float = 0.0) -> Work:
    """`began`: so many seconds ago."""
    begin = NOW - timedelta(seconds=began) if began else None
    end = begin + timedelta(seconds=took) if begin and took else None
    return Work(kind, kind in ("itn", "gan"), status, progress, begin, end)


NONE = work("none", Status.SUCCEEDED, 1.0, began=30, took=2)
WAITS = work("itn", Status.QUEUED)


def test_the_time_left_is_at_least_that_of_the_running_cell_whatever_ended_in_a_moment_before():
    running = work("itn", Status.RUNNING, 0.1, began=28)
    assert seconds_left([NONE, running], NOW) == pytest.approx(252)
    quick = [NONE] * 20
    assert seconds_left([*quick, running], NOW) == pytest.approx(252)
    assert fraction([NONE, running]) == pytest.approx(3 / 21)


def test_what_waits_takes_as_long_as_its_like():
    running = work("itn", Status.RUNNING, 0.25, began=25)
    assert seconds_left([running, WAITS, WAITS], NOW) == pytest.approx(75 + 2 * 100)
    ended = work("itn", Status.SUCCEEDED, 1.0, began=60, took=40)
    assert seconds_left([ended, WAITS], NOW) == pytest.approx(40)
    other = work("gan", Status.QUEUED)
    assert seconds_left([NONE, ended, other], NOW) == pytest.approx(40), "of what trains, when nothing is known of gan"


def test_several_at_once_share_what_waits_but_none_is_faster_than_itself():
    short, long = work("itn", Status.RUNNING, 0.5, began=50), work("itn", Status.RUNNING, 0.1, began=50)
    assert seconds_left([short, long], NOW) == pytest.approx(450)
    assert seconds_left([short, short, WAITS, WAITS], NOW) == pytest.approx((50 + 50 + 100 + 100) / 2)


def test_nothing_is_said_while_nothing_is_known():
    assert seconds_left([NONE, WAITS], NOW) is None, "what is quick says nothing of what trains"
    assert seconds_left([NONE, work("itn", Status.RUNNING, 0.0, began=5)], NOW) is None
    assert seconds_left([WAITS, WAITS], NOW) is None


def test_the_fraction_counts_what_ended_whole_and_what_cannot_be_run_not_at_all():
    failed, refused = work("itn", Status.FAILED, 0.3), work("gan", Status.NOT_APPLICABLE)
    assert fraction([NONE, failed, refused]) == 1
    assert fraction([WAITS, refused]) == 0
    assert fraction([NONE, work("none", Status.CANCELLED, 0.5)]) == 0.75, "what was cancelled came as far as it came"
    assert fraction([refused]) == 1
    assert fraction([]) == 1
