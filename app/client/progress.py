"""The progress bar of an evaluation on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from app.client.evaluation import Evaluation


@contextmanager
def bar(console: Console | None = None) -> Iterator[Callable[[Evaluation], None]]:
    """A bar, and the function that moves it; on stderr, so that stdout stays clean for results."""
    with Progress(
        TextColumn("[bold]{task.fields[done]}/{task.fields[total_cells]} cells"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=console or Console(stderr=True),
    ) as progress:
        task = progress.add_task("queued", total=1.0, done=0, total_cells="?")

        def show(evaluation: Evaluation) -> None:
            now = evaluation.progress
            eta = now.get("eta_s")
            text = now.get("phase") or evaluation.status
            if eta is not None and not evaluation.ended:
                text += f" (about {eta:.0f} s left)"
            progress.update(
                task, completed=now["fraction"], description=text, done=now["done"], total_cells=now["total"]
            )

        yield show
