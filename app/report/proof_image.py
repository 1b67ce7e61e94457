"""The image beside a verdict, on the page of the evaluation and in the report: the median image, not the best.

A cell stores its median image if it stores three samples or more. Otherwise the median of the stored samples stands for
the cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from unveil.app.report.evaluation import Cell
from unveil.app.report.table import SchemeRow, TableCell
from unveil.models.core.cell_result import CellResult


class _Stored(Protocol):
    @property
    def index(self) -> int: ...

    @property
    def ssim(self) -> float | None: ...


T = TypeVar("T", bound=_Stored)


@dataclass(frozen=True)
class ProofImage(Generic[T]):
    """A stored triple of a cell, and by which rule it was chosen."""

    cell: Cell
    sample: T
    rule: str

    @property
    def caption(self) -> str:
        return f"Image {self.sample.index}, {self.rule}"


def proof_image(row: SchemeRow, samples_of: Callable[[TableCell], Sequence[T]]) -> ProofImage[T] | None:
    """Of the cell that the verdict rests on, or else of the first with samples; None without any."""
    shown = row.verdict_cell or next((cell for cell in row.cells if samples_of(cell)), None)
    if shown is None or shown.cell is None or not (samples := samples_of(shown)):
        return None
    return ProofImage(shown.cell, *_choose(samples, shown.cell.result))


def _choose(samples: Sequence[T], result: CellResult | None) -> tuple[T, str]:
    """The median image and the rule; of an even number, the lower of the two."""
    if result is not None and result.ssim is not None:
        for sample in samples:
            if sample.index == result.median_image:
                return sample, f"the median of {result.ssim.n} images by SSIM"
    scored = sorted((each for each in samples if each.ssim is not None), key=lambda each: (each.ssim, each.index))
    ordered, by = (scored, " by SSIM") if scored else (sorted(samples, key=lambda each: each.index), "")
    return ordered[(len(ordered) - 1) // 2], f"the median of {len(ordered)} stored images{by}"
