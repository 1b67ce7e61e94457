"""The comparisons of one profile as rows of a Markdown table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from benchmarks.training.cases import cases
from benchmarks.training.race import Comparison, compare
from unveil.models.core.profiles import Profile

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SECONDS, MEASUREMENT_COUNT = 0.7, 3
TABLE_HEADER = (
    "network", "batch", "peer, images/s (workers)", "ours", "ratio", "GFLOP an image", "share of GEMM",
    "peer's memory, MB", "ours",
)  # fmt: skip


def compare_all(
    names: Sequence[str],
    profile: Profile = "quick",
    batch: int | None = None,
    device: str = DEVICE,
    seconds: float = SECONDS,
    measurement_count: int = MEASUREMENT_COUNT,
) -> list[Comparison]:
    """Printed as they are run, as Markdown."""
    selected = {
        name: make
        for name, make in cases(profile, batch).items()
        if not names or any(part.lower() in name.lower() for part in names)
    }
    if selected:
        print(f"{device}, {torch.get_num_threads()} threads, profile {profile}\n")
        print(_markdown_row(TABLE_HEADER), _markdown_row("---" for _ in TABLE_HEADER), sep="\n", flush=True)
    rows = []
    for name, make in selected.items():
        rows.append(compare(name, make, device, seconds, measurement_count))
        print(_markdown_row(format_cells(rows[-1])), flush=True)
    return rows


def format_cells(row: Comparison) -> tuple[str, ...]:
    return (
        row.name, str(row.batch), f"{row.peer:,.0f} ({row.workers})", f"{row.ours:,.0f}", f"{row.ratio:.2f}x",
        f"{row.gflop:.3g}", f"{100 * row.share:.0f} %", f"{row.peer_memory:,.0f}", f"{row.ours_memory:,.0f}",
    )  # fmt: skip


def _markdown_row(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"
