"""`unveil evaluate` and `unveil report`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, get_args

import typer

from app.cli import words
from app.cli.common import Failed, Json, Misused, State, Token, Url, connect, errors, out, print_json
from app.cli.table import render
from app.client import Evaluation
from app.client.evaluation import Format
from app.client.progress import bar


def register(app: typer.Typer) -> None:
    app.command()(evaluate)
    app.command()(report)


def evaluate(
    schemes: Annotated[
        str, typer.Option(help="NAME[:SETTING]..., comma-separated: pixelwise:different,tanaka; or all")
    ],
    attacks: Annotated[str, typer.Option(help="The same for attacks: none,fr:b=1; or all")] = "all",
    dataset: Annotated[str, typer.Option(help="Name or ds_... id; `unveil datasets list` shows them")] = "sample",
    profile: Annotated[str, typer.Option(help="smoke, quick or paper")] = "quick",
    name: Annotated[str, typer.Option(help="A name of yours")] = "",
    seed: int = 0,
    keys: Annotated[int | None, typer.Option(help="Independent keys for each keyed scheme")] = None,
    samples: Annotated[int | None, typer.Option(help="Stored pictures a cell")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end and print the table")] = False,
    url: Url = None,
    token: Token = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Order an evaluation: every scheme under every attack on a dataset."""
    with connect(url, token, state) as client:
        known_schemes, known_attacks = client.schemes(), client.attacks()
        given = {"seed": seed, "keys": keys, "samples": samples}
        evaluation = client.evaluations.create(
            schemes=words.parse(schemes, known_schemes),
            attacks=words.parse(attacks, known_attacks),
            dataset=dataset,
            profile=profile,  # type: ignore[arg-type]  # the service knows the profiles
            name=name,
            **{field: value for field, value in given.items() if value is not None},
        )
        if not watch:
            _show_order(evaluation, as_json)
            return
        errors.print(f"{evaluation.id} (Ctrl-C leaves it running)")
        with bar(errors) as show:
            evaluation.wait(progress=show)
        if as_json:
            print_json(evaluation.raw)
        else:
            out.print(render(evaluation, [*known_schemes, *known_attacks]))
    if evaluation.status != "succeeded":
        raise Failed(f"{evaluation.id} {evaluation.status}: " + _reasons(evaluation))


def report(
    id: Annotated[str, typer.Argument(help="ev_...", metavar="EV")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write; - is stdout")] = Path("report.html"),
    format: Annotated[str | None, typer.Option(help="html, json, csv, md or zip; else by the file's suffix")] = None,
    url: Url = None,
    token: Token = None,
    state: State = None,
) -> None:
    """Fetch the report of an evaluation."""
    formats = get_args(Format)
    wanted = format or output.suffix.removeprefix(".")
    if wanted not in formats:
        raise Misused(f"{wanted or output.name!r} is no report format; take {', '.join(formats)}")
    with connect(url, token, state) as client:
        content = client.evaluations.get(id).report(wanted)  # type: ignore[arg-type]
    if str(output) == "-":
        sys.stdout.buffer.write(content)
    else:
        output.write_bytes(content)
        errors.print(f"wrote {output} ({len(content):,} bytes)")


def _show_order(evaluation: Evaluation, as_json: bool) -> None:
    if as_json:
        print_json(evaluation.raw)
    else:
        print(evaluation.id)


def _reasons(evaluation: Evaluation) -> str:
    failed = [cell for cell in evaluation.cells if cell.status == "failed"]
    return "; ".join(
        f"{cell.attack['name']} on {cell.scheme['name']}: {(cell.error or {}).get('detail', 'unknown')}"
        for cell in failed
    )
