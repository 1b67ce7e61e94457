"""An evaluation as tables on the terminal: our figures beside the paper's, and a verdict for each scheme."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from unveil.app.cli import spec_parser
from unveil.app.client import Cell
from unveil.app.client.evaluation import EvaluationState

STYLES = {"broken": "bold red", "leaks": "yellow", "no leak found": "green", "inconclusive": "magenta"}


def render(evaluation: EvaluationState, catalog: Sequence[Mapping[str, Any]] = ()) -> RenderableType:
    """`catalog`: schemes and attacks as the service describes them, to leave default settings unsaid."""
    legend = Text(_legend(evaluation), style="dim")
    utility = [_utility(evaluation, catalog)] if evaluation.utility else []
    reasons = _reasons(evaluation, catalog)
    return Group(_cells(evaluation, catalog), legend, *reasons, "", *utility, _verdicts(evaluation, catalog))


def _cells(evaluation: EvaluationState, catalog: Sequence[Mapping[str, Any]]) -> Table:
    title = f"{evaluation.name or evaluation.id}: {evaluation.status}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)  # narrow: fits 80 columns
    for heading in ("scheme", "attack"):
        table.add_column(heading, overflow="fold")
    for heading in ("SSIM", "paper", "ident."):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    last = None
    for cell in evaluation.cells:
        scheme = spec_parser.label(cell.scheme, catalog)
        if last not in (None, scheme):
            table.add_section()
        table.add_row("" if scheme == last else scheme, spec_parser.label(cell.attack, catalog), *_figures(cell))
        last = scheme
    return table


def _figures(cell: Cell) -> tuple[RenderableType, ...]:
    result = cell.result
    if result is None:
        return "", "", "", Text("n/a" if cell.status == "not_applicable" else cell.status, style="dim")
    verdict = Text(result["verdict"], style=STYLES.get(result["verdict"], ""))
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


def _legend(evaluation: EvaluationState) -> str:
    seen = [(cell.result or {}).get("identification") for cell in evaluation.cells]
    sizes = sorted({figures["gallery"] for figures in seen if figures})
    among = f" among {', '.join(map(str, sizes))}" if sizes else ""
    return f"SSIM: 1 is the plain image; 2^n is the number of keys. ident.: images identified{among}."


def _reasons(evaluation: EvaluationState, catalog: Sequence[Mapping[str, Any]]) -> list[Text]:
    """Why some have no figures: each reason once, and what it holds for; the schemes where it is not all of them."""
    whole = {spec_parser.label(cell.scheme, catalog) for cell in evaluation.cells}
    found: dict[tuple[str, str], tuple[dict[str, None], dict[str, None]]] = {}
    for scheme, attack, word, reason in _without_figures(evaluation, catalog):
        attacks, schemes = found.setdefault((word, reason), ({}, {}))
        attacks[attack], schemes[scheme] = None, None
    return [
        Text.assemble(
            (f"{word}: ", "bold red" if word == "failed" else "bold"),
            ", ".join(attacks) + ("" if schemes.keys() == whole else f" on {', '.join(schemes)}"),
            f": {reason}",
        )
        for (word, reason), (attacks, schemes) in found.items()
    ]


def _without_figures(
    evaluation: EvaluationState, catalog: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, str, str, str]]:
    """Scheme, attack, what stands in the table, and a reason."""
    for cell in evaluation.cells:
        what = spec_parser.label(cell.scheme, catalog), str(cell.attack["name"])
        result = cell.result or {}
        if cell.reason:
            yield *what, "n/a", cell.reason
        elif cell.status == "failed" and cell.error:
            yield *what, "failed", cell.error["detail"]
        elif result.get("ssim") is None and result.get("key_space_bits") is None:
            for note in result.get("notes", ()):
                yield *what, "not scored", note
    for job in evaluation.utility:
        what = spec_parser.label(job["scheme"], catalog), "utility"
        if job["reason"]:
            yield *what, "n/a", job["reason"]
        elif job["status"] == "failed" and job["error"]:
            yield *what, "failed", job["error"]["detail"]


def _utility(evaluation: EvaluationState, catalog: Sequence[Mapping[str, Any]]) -> Table:
    title = "Utility: accuracy of a classifier on plain and on protected images"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("scheme", overflow="fold")
    for heading in ("plain", "protected", "drop"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("classification", "training", "cost"):
        table.add_column(heading, no_wrap=True)
    for job in evaluation.utility:
        scheme, result = spec_parser.label(job["scheme"], catalog), job["result"]
        if result is None:
            status = "n/a" if job["status"] == "not_applicable" else job["status"]
            table.add_row(scheme, Text(status, style="dim"))
            continue
        table.add_row(
            scheme,
            f"{result['plain']['top1']:.1%}",
            f"{result['protected']['top1']:.1%}",
            f"{result['drop']['points']:.1f}",
            result["classification"],
            "yes" if result["training"]["available"] else "no",
            result["cost"]["level"] or "",
        )
    return table


def _verdicts(evaluation: EvaluationState, catalog: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(
        title="Verdicts: the worst case over all attacks", title_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("scheme", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("because", ratio=1)
    table.add_column("the paper", ratio=1)
    for verdict in evaluation.verdicts:
        table.add_row(
            spec_parser.label(verdict["scheme"], catalog),
            Text(verdict["verdict"], style=STYLES.get(verdict["verdict"], "")),
            verdict["because"],
            _paper(verdict["paper"] or {}),
        )
    return table


def _paper(said: Mapping[str, str]) -> str:
    by_word: dict[str, list[str]] = {}
    for attack, word in said.items():
        by_word.setdefault(word, []).append(attack)
    return "; ".join(f"{word} to {', '.join(attacks)}" for word, attacks in by_word.items())
