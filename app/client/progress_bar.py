"""Shows the progress of a job: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from unveil.app.client.progress import HasProgress, ProgressSnapshot

LINE_INTERVAL_S = 30.0  # between lines of a job whose count of finished parts stays the same


@contextmanager
def progress_bar(console: Console | None = None) -> Iterator[Callable[[HasProgress], None]]:
    """The function that shows a job's progress; on stderr by default, so that stdout holds results only."""
    console = console or Console(stderr=True, markup=False, emoji=False)
    if not console.is_terminal:
        yield _LinePrinter(console)
        return
    with Progress(
        TextColumn("{task.fields[tally]}", style="bold", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
    ) as progress:
        task = progress.add_task("queued", total=1.0, tally="")

        def update(job: HasProgress) -> None:
            snapshot = job.snapshot()
            progress.update(
                task, completed=snapshot.fraction, description=_describe(snapshot), tally=snapshot.tally
            )  # fmt: skip

        yield update


class _LinePrinter:
    """One line when a part of the job ends or its status changes, and every half minute in between."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed: tuple[str, str] | None = None
        self._printed_at = 0.0

    def __call__(self, job: HasProgress) -> None:
        snapshot = job.snapshot()
        state = snapshot.tally, snapshot.status
        now = time.monotonic()
        if state == self._printed and now - self._printed_at < LINE_INTERVAL_S:
            return
        self._printed, self._printed_at = state, now
        parts = [snapshot.tally, f"{snapshot.fraction:.0%}", _describe(snapshot)]
        self._console.print("  ".join(filter(None, parts)), highlight=False, soft_wrap=True)


def _describe(snapshot: ProgressSnapshot) -> str:
    return snapshot.phase if snapshot.eta_s is None else f"{snapshot.phase} ({_format_eta(snapshot.eta_s)})"


def _format_eta(seconds: float) -> str:
    """In steps that a reader expects of an estimate: 5 s below a minute, else whole minutes or tenths of an hour."""
    if seconds < 60:
        return f"about {max(5, 5 * round(seconds / 5))} s left"
    if seconds < 100 * 60:
        return f"about {round(seconds / 60)} min left"
    return f"about {seconds / 3600:.1f} h left"
