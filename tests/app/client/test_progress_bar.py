"""Progress as lines where there is no terminal, and estimates in steps that do not flicker."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass

import pytest
from rich.console import Console

from unveil.app.client import progress_bar
from unveil.app.client.progress import ProgressSnapshot


@dataclass
class Job:
    at: ProgressSnapshot

    def snapshot(self) -> ProgressSnapshot:
        return self.at


RUN = [
    ProgressSnapshot(0.0, "waiting for a worker", "queued", "0/2 cells"),
    ProgressSnapshot(0.1, "fr on tanaka", "running", "0/2 cells"),
    ProgressSnapshot(0.4, "fr on tanaka, key 2 of 3", "running", "0/2 cells", 7.4),
    ProgressSnapshot(0.5, "itn on tanaka", "running", "1/2 cells", 129.0),
    ProgressSnapshot(1.0, "succeeded", "succeeded", "2/2 cells"),
]


def test_a_pipe_gets_a_line_for_each_cell_and_status_without_control_characters() -> None:
    file = io.StringIO()
    with progress_bar.progress_bar(Console(file=file, width=40)) as update:
        for snapshot in RUN:
            update(Job(snapshot))
            update(Job(snapshot))
    assert file.getvalue().splitlines() == [
        "0/2 cells  0%  waiting for a worker",
        "0/2 cells  10%  fr on tanaka",
        "1/2 cells  50%  itn on tanaka (about 2 min left)",
        "2/2 cells  100%  succeeded",
    ]


def test_a_long_cell_shows_that_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    file, now = io.StringIO(), iter([0.0, 29.0, 31.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    with progress_bar.progress_bar(Console(file=file)) as update:
        for _ in range(3):
            update(Job(RUN[2]))
    assert file.getvalue().count("fr on tanaka, key 2 of 3 (about 5 s left)") == 2


def test_a_terminal_gets_a_bar_that_ends_full() -> None:
    file = io.StringIO()
    with progress_bar.progress_bar(Console(file=file, force_terminal=True, width=100)) as update:
        for snapshot in RUN:
            update(Job(snapshot))
    assert "2/2 cells" in file.getvalue()
    assert "100%" in file.getvalue()
