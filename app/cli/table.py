"""An evaluation as a table on the terminal: our figures beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from app.cli import words
from app.client import Cell, Evaluation

_STYLES = {"broken": "bold red", "leaks": "yellow", "no leak found": "green", "inconclusive": "magenta"}


def render(evaluation: Evaluation, catalog: Sequence[Mapping[str, Any]] = ()) -> RenderableType:
    """`catalog`: schemes and attacks as the service describes them, to leave default settings unsaid."""
    title = f"{evaluation.name or evaluation.id}: {evaluation.status}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)  # narrow: fits 80 columns
    for heading in ("scheme", "attack"):
        table.add_column(heading, overflow="fold")
    for heading in ("SSIM", "paper", "ident."):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    last = None
    for cell in evaluation.cells:
        scheme = words.label(cell.scheme, catalog)
        if last not in (None, scheme):
            table.add_section()
        table.add_row("" if scheme == last else scheme, words.label(cell.attack, catalog), *_figures(cell))
        last = scheme
    return Group(table, Text(_legend(evaluation), style="dim"), *_verdicts(evaluation, catalog))


def _figures(cell: Cell) -> tuple[RenderableType, ...]:
    result = cell.result
    if result is None:
        return "", "", "", Text("n/a" if cell.status == "not_applicable" else cell.status, style="dim")
    verdict = Text(result["verdict"], style=_STYLES.get(result["verdict"], ""))
    if result.get("ssim") is None:
        bits = result.get("key_space_bits")
        return "" if bits is None else f"2^{bits:.0f}", "", "", verdict
    paper = result.get("paper_ssim")
    seen = result.get("identification")
    return (
        f"{result['ssim']['mean']:.3f}",
        "" if paper is None else f"{paper:.3f}",
        "" if seen is None else f"{seen['top1']:.0%}",
        verdict,
    )


def _legend(evaluation: Evaluation) -> str:
    seen = [(cell.result or {}).get("identification") for cell in evaluation.cells]
    sizes = sorted({figures["gallery"] for figures in seen if figures})
    among = f" among {', '.join(map(str, sizes))}" if sizes else ""
    return (
        f"SSIM: 1 is the plain image; 2^n is the number of keys. ident.: images identified{among}. "
        "n/a: the attack does not apply."
    )


def _verdicts(evaluation: Evaluation, catalog: Sequence[Mapping[str, Any]]) -> list[Text]:
    return [
        Text.assemble(
            (f"{words.label(verdict['scheme'], catalog)}: ", "bold"),
            (verdict["verdict"], _STYLES.get(verdict["verdict"], "")),
            f": {verdict['because']}",
        )
        for verdict in evaluation.verdicts
    ]
