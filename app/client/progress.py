"""A progress bar on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn


@dataclass(frozen=True)
class ProgressSnapshot:
    fraction: float
    phase: str
    tally: str = ""  # such as "3/12 cells"
    eta_s: float | None = None


class HasProgress(Protocol):
    def snapshot(self) -> ProgressSnapshot: ...


@contextmanager
def progress_bar(console: Console | None = None) -> Iterator[Callable[[HasProgress], None]]:
    """A bar, and the function that moves it; on stderr, so that stdout stays clean for results."""
    with Progress(
        TextColumn("{task.fields[tally]}", style="bold", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console or Console(stderr=True),
    ) as progress:
        task = progress.add_task("queued", total=1.0, tally="")

        def update(job: HasProgress) -> None:
            snapshot = job.snapshot()
            eta_text = "" if snapshot.eta_s is None else f" (about {snapshot.eta_s:.0f} s left)"
            progress.update(
                task, completed=snapshot.fraction, description=snapshot.phase + eta_text, tally=snapshot.tally
            )

        yield update
