"""The races of one profile, told as rows of a table in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from benchmarks.training.cases import cases
from benchmarks.training.race import Raced, race
from unveil.models.core.profiles import Profile

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SECONDS, LAPS = 0.7, 3
HEAD = (
    "network", "batch", "peer, images/s (workers)", "ours", "ratio", "GFLOP an image", "share of GEMM",
    "peer's memory, MB", "ours",
)  # fmt: skip


def races(
    names: Sequence[str],
    profile: Profile = "quick",
    batch: int | None = None,
    device: str = DEVICE,
    seconds: float = SECONDS,
    laps: int = LAPS,
) -> list[Raced]:
    """Printed as they are run, as Markdown."""
    chosen = {
        name: make
        for name, make in cases(profile, batch).items()
        if not names or any(part.lower() in name.lower() for part in names)
    }
    if chosen:
        print(f"{device}, {torch.get_num_threads()} threads, profile {profile}\n")
        print(_line(HEAD), _line("---" for _ in HEAD), sep="\n", flush=True)
    rows = []
    for name, make in chosen.items():
        rows.append(race(name, make, device, seconds, laps))
        print(_line(cells(rows[-1])), flush=True)
    return rows


def cells(row: Raced) -> tuple[str, ...]:
    return (
        row.name, str(row.batch), f"{row.peer:,.0f} ({row.workers})", f"{row.ours:,.0f}", f"{row.ratio:.2f}x",
        f"{row.gflop:.3g}", f"{row.share:.0%}", f"{row.peer_memory:,.0f}", f"{row.ours_memory:,.0f}",
    )  # fmt: skip


def _line(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"
