"""`unveil board`: schemes compared across evaluations, as a table, in a file format, or as a static site."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unveil.app.cli import completion
from unveil.app.cli.common import Json, State, Token, Url, UsageError, connect, print_json, stderr, stdout
from unveil.app.client.options import Profile

if TYPE_CHECKING:
    from rich.table import Table

    from unveil.app.client.client import Client
    from unveil.app.report.board import Board, BoardRow, PaperBoardRow

_POLL_INTERVAL_S = 0.2


def register(app: typer.Typer) -> None:
    app.command()(board)


def board(
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Name or SHA-256 (default: the dataset with the most evaluations)",
            autocompletion=completion.complete_dataset,
        ),
    ] = None,
    profile: Annotated[Profile | None, typer.Option(help="Only evaluations of this profile")] = None,
    threat_model: Annotated[str | None, typer.Option(help="Show only the worst case under this threat model")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write a static site to this folder: index.html, board.json and cards"),
    ] = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV")] = False,
    as_latex: Annotated[bool, typer.Option("--latex", help="Print a LaTeX table")] = False,
    as_bibtex: Annotated[bool, typer.Option("--bibtex", help="Print BibTeX")] = False,
    url: Url = None,
    token: Token = None,
    state: State = None,
) -> None:
    """Compare schemes across all finished evaluations of a dataset: the worst case under each threat model."""
    if sum((as_json, as_csv, as_latex, as_bibtex, output is not None)) > 1:
        raise UsageError("choose one of --json, --csv, --latex, --bibtex and -o")
    with connect(url, token, state) as client:
        board = _read_board(client, dataset, profile, threat_model)
    if as_json:
        print_json(board.to_json())
        return
    from unveil.app.board import formats, site  # bring the catalog

    if output is not None:
        if not board.rows:
            raise UsageError("the board is empty: no finished evaluation matches, so there is nothing to publish")
        files = site.write_site(board, output)
        stderr().print(f"wrote {output / 'index.html'} and {len(files) - 1} files beside it")
    elif as_csv:
        print(formats.to_csv(board), end="")
    elif as_latex:
        print(formats.to_latex(board), end="")
    elif as_bibtex:
        print(formats.to_bibtex(board), end="")
    else:
        from rich.console import Group
        from rich.text import Text

        stdout().print(Group(_table(board), Text(_legend(board), style="dim")))


def _read_board(client: Client, dataset: str | None, profile: Profile | None, threat_model: str | None) -> Board:
    """The whole board: the service adds finished evaluations a few at a time."""
    while True:
        board = client.board(dataset, profile, threat_model)
        if not board.pending:
            return board
        stderr().print(f"{board.pending} evaluations still to add")
        time.sleep(_POLL_INTERVAL_S)


def _table(board: Board) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table

    from unveil.app.cli.console import verdict_text

    table = Table(
        title=f"Board on {board.dataset or 'no dataset'}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("scheme", overflow="fold")
    table.add_column("threat model", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("attack", overflow="fold")
    for heading in ("SSIM", "ident."):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in board.rows:
        names = [Group(row.label, verdict_text(row.verdict, row.headline))]
        for model, figures in row.by_threat_model.items():
            name = names.pop() if names else ""
            verdict = verdict_text(figures.verdict)
            table.add_row(name, model, verdict, figures.attack or "", *_scores(figures.ssim, figures.identification))
        table.add_section()
    for paper in board.paper:
        _add_paper_rows(table, paper)
    return table


def _add_paper_rows(table: Table, paper: PaperBoardRow) -> None:
    name = f"{paper.title}: the paper"
    for model, figures in paper.by_threat_model.items():
        table.add_row(name, model, figures.verdict or "", figures.attack, *_scores(figures.ssim, None), style="dim")
        name = ""
    table.add_section()


def _scores(ssim: float | None, identification: float | None) -> tuple[str, str]:
    from unveil.app.report.labels import format_percent

    share = "" if identification is None else format_percent(identification, 0)
    return "" if ssim is None else f"{ssim:.3f}", share


def _legend(board: Board) -> str:
    newest: list[BoardRow] = sorted(board.rows, key=lambda row: row.measured_at)[-1:]
    measured = f", measured until {newest[0].measured_at:%Y-%m-%d}" if newest else ""
    return (
        f"The worst case over all finished evaluations, rules {board.rules_version}{measured}. "
        f"Dataset SHA-256 {board.dataset_sha256 or 'unknown'}."
    )
