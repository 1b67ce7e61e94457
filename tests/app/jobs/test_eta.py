"""How far an evaluation has come, and how long it still takes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from unveil.app.db.job_states import Status
from unveil.app.jobs.eta import JobProgress, estimate_remaining_seconds, weighted_progress

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def make_job(
    kind: str, status: Status, progress: float = 0.0, *, started_seconds_ago: float = 0.0, duration_s: float = 0.0
) -> JobProgress:
    """`began`: so many seconds ago."""
    started_at = NOW - timedelta(seconds=started_seconds_ago) if started_seconds_ago else None
    finished_at = started_at + timedelta(seconds=duration_s) if started_at and duration_s else None
    return JobProgress(kind, kind in ("itn", "gan"), status, progress, started_at, finished_at)


NONE = make_job("none", Status.SUCCEEDED, 1.0, started_seconds_ago=30, duration_s=2)
WAITING = make_job("itn", Status.QUEUED)


def test_the_time_left_is_at_least_that_of_the_running_cell_whatever_ended_in_a_moment_before():
    running = make_job("itn", Status.RUNNING, 0.1, started_seconds_ago=28)
    assert estimate_remaining_seconds([NONE, running], NOW) == pytest.approx(252)
    quick = [NONE] * 20
    assert estimate_remaining_seconds([*quick, running], NOW) == pytest.approx(252)
    assert weighted_progress([NONE, running]) == pytest.approx(3 / 21)


def test_what_waits_takes_as_long_as_its_like():
    running = make_job("itn", Status.RUNNING, 0.25, started_seconds_ago=25)
    assert estimate_remaining_seconds([running, WAITING, WAITING], NOW) == pytest.approx(75 + 2 * 100)
    ended = make_job("itn", Status.SUCCEEDED, 1.0, started_seconds_ago=60, duration_s=40)
    assert estimate_remaining_seconds([ended, WAITING], NOW) == pytest.approx(40)
    other = make_job("gan", Status.QUEUED)
    assert estimate_remaining_seconds([NONE, ended, other], NOW) == pytest.approx(40), (
        "of what trains, when nothing is known of gan"
    )


def test_several_at_once_share_what_waits_but_none_is_faster_than_itself():
    short, long = (
        make_job("itn", Status.RUNNING, 0.5, started_seconds_ago=50),
        make_job("itn", Status.RUNNING, 0.1, started_seconds_ago=50),
    )
    assert estimate_remaining_seconds([short, long], NOW) == pytest.approx(450)
    assert estimate_remaining_seconds([short, short, WAITING, WAITING], NOW) == pytest.approx((50 + 50 + 100 + 100) / 2)


def test_there_is_no_estimate_without_data():
    assert estimate_remaining_seconds([NONE, WAITING], NOW) is None, "what is quick says nothing of what trains"
    assert estimate_remaining_seconds([NONE, make_job("itn", Status.RUNNING, 0.0, started_seconds_ago=5)], NOW) is None
    assert estimate_remaining_seconds([WAITING, WAITING], NOW) is None


def test_the_fraction_counts_what_ended_whole_and_what_cannot_be_run_not_at_all():
    failed, refused = make_job("itn", Status.FAILED, 0.3), make_job("gan", Status.NOT_APPLICABLE)
    assert weighted_progress([NONE, failed, refused]) == 1
    assert weighted_progress([WAITING, refused]) == 0
    assert weighted_progress([NONE, make_job("none", Status.CANCELLED, 0.5)]) == 0.75, (
        "what was cancelled came as far as it came"
    )
    assert weighted_progress([refused]) == 1
    assert weighted_progress([]) == 1


def make_costed_job(kind: str, status: Status, estimated_s: float, **more: float) -> JobProgress:
    return replace(make_job(kind, status, **more), estimated_seconds=estimated_s)


def test_a_job_of_a_new_kind_takes_its_estimated_cost_at_the_pace_of_ended_jobs():
    ended = make_costed_job("none", Status.SUCCEEDED, 10, started_seconds_ago=60, duration_s=20)
    waiting = make_costed_job("fr", Status.QUEUED, 30)
    assert estimate_remaining_seconds([ended, waiting], NOW) == pytest.approx(60), "jobs take twice their estimate"
    trains = make_costed_job("itn", Status.QUEUED, 30)
    assert estimate_remaining_seconds([ended, trains], NOW) is None, "what is quick says nothing of what trains"


def test_the_estimate_does_not_jump_when_a_job_begins():
    ended = make_job("itn", Status.SUCCEEDED, 1.0, started_seconds_ago=200, duration_s=100)
    slow_start = make_job("itn", Status.RUNNING, 0.01, started_seconds_ago=8)  # extrapolated: 800 s
    assert estimate_remaining_seconds([ended, slow_start], NOW) == pytest.approx(0.05 * 800 + 0.95 * 100 - 8)
    halfway = make_job("itn", Status.RUNNING, 0.5, started_seconds_ago=100)
    assert estimate_remaining_seconds([ended, halfway], NOW) == pytest.approx(100), "its own pace alone"
