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

VERDICT_STYLES = {"broken": "bold red", "leaks": "yellow", "no leak found": "green", "inconclusive": "magenta"}


def render(evaluation: EvaluationState, catalog: Sequence[Mapping[str, Any]] = ()) -> RenderableType:
    """`catalog`: schemes and attacks as the service describes them, to leave default settings unsaid."""
    legend = Text(_format_legend(evaluation), style="dim")
    utility = [_utility_table(evaluation, catalog)] if evaluation.utility else []
    reasons = _reason_lines(evaluation, catalog)
    return Group(
        _cells_table(evaluation, catalog), legend, *reasons, "", *utility, _verdicts_table(evaluation, catalog)
    )


def _cells_table(evaluation: EvaluationState, catalog: Sequence[Mapping[str, Any]]) -> Table:
    title = f"{evaluation.name or evaluation.id}: {evaluation.status}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)  # narrow: fits 80 columns
    for heading in ("scheme", "attack"):
        table.add_column(heading, overflow="fold")
    for heading in ("SSIM", "paper", "ident."):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    last = None
    for cell in evaluation.cells:
        scheme = spec_parser.format_spec(cell.scheme, catalog)
        if last not in (None, scheme):
            table.add_section()
        table.add_row(
            "" if scheme == last else scheme, spec_parser.format_spec(cell.attack, catalog), *_score_columns(cell)
        )
        last = scheme
    return table


def _score_columns(cell: Cell) -> tuple[RenderableType, ...]:
    result = cell.result
    if result is None:
        return "", "", "", Text("n/a" if cell.status == "not_applicable" else cell.status, style="dim")
    verdict = Text(result["verdict"], style=VERDICT_STYLES.get(result["verdict"], ""))
    if result.get("ssim") is None:
        bits = result.get("key_space_bits")
        return "" if bits is None else f"2^{bits:.0f}", "", "", verdict
    paper = result.get("paper_ssim")
    identification = result.get("identification")
    return (
        f"{result['ssim']['mean']:.3f}",
        "" if paper is None else f"{paper:.3f}",
        "" if identification is None else f"{identification['top1']:.0%}",
        verdict,
    )


def _format_legend(evaluation: EvaluationState) -> str:
    identifications = [(cell.result or {}).get("identification") for cell in evaluation.cells]
    sizes = sorted({figures["gallery"] for figures in identifications if figures})
    among = f" among {', '.join(map(str, sizes))}" if sizes else ""
    return f"SSIM: 1 is the plain image; 2^n is the number of keys. ident.: images identified{among}."


def _reason_lines(evaluation: EvaluationState, catalog: Sequence[Mapping[str, Any]]) -> list[Text]:
    """Why some have no figures: each reason once, and what it holds for; the schemes where it is not all of them."""
    all_schemes = {spec_parser.format_spec(cell.scheme, catalog) for cell in evaluation.cells}
    cells_by_reason: dict[tuple[str, str], tuple[dict[str, None], dict[str, None]]] = {}
    for scheme, attack, status_word, reason in _iter_unscored(evaluation, catalog):
        attacks, schemes = cells_by_reason.setdefault((status_word, reason), ({}, {}))
        attacks[attack], schemes[scheme] = None, None
    return [
        Text.assemble(
            (f"{status_word}: ", "bold red" if status_word == "failed" else "bold"),
            ", ".join(attacks) + ("" if schemes.keys() == all_schemes else f" on {', '.join(schemes)}"),
            f": {reason}",
        )
        for (status_word, reason), (attacks, schemes) in cells_by_reason.items()
    ]


def _iter_unscored(
    evaluation: EvaluationState, catalog: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, str, str, str]]:
    """Scheme, attack, what stands in the table, and a reason."""
    for cell in evaluation.cells:
        names = spec_parser.format_spec(cell.scheme, catalog), str(cell.attack["name"])
        result = cell.result or {}
        if cell.reason:
            yield *names, "n/a", cell.reason
        elif cell.status == "failed" and cell.error:
            yield *names, "failed", cell.error["detail"]
        elif result.get("ssim") is None and result.get("key_space_bits") is None:
            for note in result.get("notes", ()):
                yield *names, "not scored", note
    for job in evaluation.utility:
        names = spec_parser.format_spec(job["scheme"], catalog), "utility"
        if job["reason"]:
            yield *names, "n/a", job["reason"]
        elif job["status"] == "failed" and job["error"]:
            yield *names, "failed", job["error"]["detail"]


def _utility_table(evaluation: EvaluationState, catalog: Sequence[Mapping[str, Any]]) -> Table:
    title = "Utility: accuracy of a classifier on plain and on protected images"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("scheme", overflow="fold")
    for heading in ("plain", "protected", "drop"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("classification", "training", "cost"):
        table.add_column(heading, no_wrap=True)
    for job in evaluation.utility:
        scheme, result = spec_parser.format_spec(job["scheme"], catalog), job["result"]
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


def _verdicts_table(evaluation: EvaluationState, catalog: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(
        title="Verdicts: the worst case over all attacks", title_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("scheme", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("because", ratio=1)
    table.add_column("the paper", ratio=1)
    for verdict in evaluation.verdicts:
        table.add_row(
            spec_parser.format_spec(verdict["scheme"], catalog),
            Text(verdict["verdict"], style=VERDICT_STYLES.get(verdict["verdict"], "")),
            verdict["because"],
            _format_paper_verdicts(verdict["paper"] or {}),
        )
    return table


def _format_paper_verdicts(verdict_by_attack: Mapping[str, str]) -> str:
    by_word: dict[str, list[str]] = {}
    for attack, word in verdict_by_attack.items():
        by_word.setdefault(word, []).append(attack)
    return "; ".join(f"{word} to {', '.join(attacks)}" for word, attacks in by_word.items())
