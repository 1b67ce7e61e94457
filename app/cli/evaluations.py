"""`unveil evaluate` and `unveil evaluations`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unveil.app.cli import completion, gate, references, spec_parser
from unveil.app.cli.common import (
    CommandFailed,
    Json,
    State,
    Token,
    Url,
    UsageError,
    connect,
    format_date,
    print_items,
    print_json,
    print_result,
    stacked,
    stderr,
    stdout,
)
from unveil.app.cli.gate import FailOn, Junit, Summary
from unveil.app.cli.groups import CommandGroup
from unveil.app.client.options import Profile

if TYPE_CHECKING:
    from unveil.app.client.client import Client
    from unveil.app.client.evaluation import Evaluation
    from unveil.app.client.types import EvaluationEstimate, Scheme
    from unveil.app.report.evaluation import Job

evaluations = CommandGroup(help="List, follow, edit, cancel and delete evaluations.")

FailOnOption = Annotated[
    FailOn | None,
    typer.Option(help="Wait, and exit with code 4 on this verdict or a worse one: broken, leaks, inconclusive"),
]
EvaluationId = Annotated[
    str,
    typer.Argument(
        help="Id (ev_...) or a prefix of it, name, or latest",
        metavar="EV",
        autocompletion=completion.complete_evaluation,
    ),
]


def register(app: typer.Typer) -> None:
    app.command()(evaluate)
    app.add_typer(evaluations, name="evaluations")


def evaluate(
    schemes: Annotated[
        str,
        typer.Option(
            help="Comma-separated NAME[:SETTING]..., such as pixelwise:different,tanaka; or all",
            autocompletion=completion.complete_schemes,
        ),
    ],
    attacks: Annotated[
        str,
        typer.Option(
            help="Comma-separated NAME[:SETTING]..., such as none,fr:b=1; or all",
            autocompletion=completion.complete_attacks,
        ),
    ] = "all",
    dataset: Annotated[
        str,
        typer.Option(
            help="Name, id (ds_...) or a prefix of it, or latest; see `unveil datasets list`",
            autocompletion=completion.complete_dataset,
        ),
    ] = "sample",
    profile: Annotated[
        Profile, typer.Option(help="smoke: seconds; quick: minutes; paper: the settings of the paper")
    ] = "quick",
    name: Annotated[str | None, typer.Option(help="Name of the evaluation")] = None,
    seed: int = 0,
    keys: Annotated[int | None, typer.Option(help="Number of keys drawn for each keyed scheme")] = None,
    samples: Annotated[
        int | None, typer.Option(help="Image triples (plain, protected, reconstructed) to store for each cell")
    ] = None,
    utility: Annotated[
        bool,
        typer.Option(
            "--utility",
            help="Also measure how much accuracy a classifier loses on protected images",
        ),
    ] = False,
    public_dataset: Annotated[
        str | None,
        typer.Option(
            help="Dataset that the attacker owns; same references as --dataset",
            autocompletion=completion.complete_dataset,
        ),
    ] = None,
    ssim_mode: Annotated[
        str | None, typer.Option(help="rgb7, gray7, mean7, rgb-gauss11, gray-gauss11 or ycbcr-gauss11")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Wait until the evaluation ends and print its tables")] = False,
    fail_on: FailOnOption = None,
    junit: Junit = None,
    summary: Summary = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Print the estimated cost and the quota that is left; create nothing")
    ] = False,
    url: Url = None,
    token: Token = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Evaluate schemes under attacks on a dataset. Attacks that the profile requires and that train nothing are added.

    --fail-on, --junit and --summary wait until the evaluation ends.
    """
    if estimate and (watch or fail_on or junit or summary):
        raise UsageError("--estimate creates no evaluation to wait for; leave out --watch, --fail-on and reports")
    options: dict[str, Any] = {"seed": seed, "keys": keys, "samples": samples, "utility": utility or None}
    options |= {"name": name, "ssim_mode": ssim_mode}
    with connect(url, token, state) as client:
        if public_dataset is not None:
            options["public_dataset"] = references.dataset_id(client, public_dataset)
        entries = {
            "schemes": spec_parser.parse_specs(schemes, client.schemes()),
            "attacks": spec_parser.parse_specs(attacks, client.attacks()),
        }
        request: dict[str, Any] = {
            "schemes": [references.resolve_settings(client, entry) for entry in entries["schemes"]],
            "attacks": [references.resolve_settings(client, entry) for entry in entries["attacks"]],
            "dataset": references.dataset_id(client, dataset),
            "profile": profile,
            **{field: value for field, value in options.items() if value is not None},
        }
        if estimate:
            _print_estimate(client.evaluations.estimate(**request), as_json)
            return
        evaluation = client.evaluations.create(**request)
        cost = f"estimated cost: {evaluation.raw['estimated_core_hours']:.2g} core hours on a CPU"
        if watch or fail_on or junit or summary:
            stderr().print(f"{evaluation.id} ({cost}; Ctrl-C leaves it running)")
            _wait_and_print(evaluation, as_json, fail_on, junit, summary)
        else:
            stderr().print(cost)
            print_result(as_json, evaluation.raw, evaluation.id)


def _print_estimate(estimate: EvaluationEstimate, as_json: bool) -> None:
    if as_json:
        print_json(estimate)
        return
    quota = estimate["quota"]
    stdout().print(
        f"cells: {estimate['cells']}, keys to train: {estimate['trained_keys']}, "
        f"pairs that cannot run: {estimate['not_applicable']}\n"
        f"estimated cost: {estimate['estimated_core_hours']:.2g} core hours on a CPU\n"
        f"quota: {quota['left']:.4g} of {quota['limit']:.4g} core hours left ({quota['used']:.2g} used in 30 days, "
        f"{quota['reserved']:.2g} reserved by active jobs)"
    )


@evaluations.command("list")
def list_evaluations(
    name: Annotated[str, typer.Option(help="Only evaluations whose name, notes or tags contain this text")] = "",
    status: Annotated[str, typer.Option(help="A status, such as running, succeeded or failed")] = "",
    scheme: Annotated[
        str, typer.Option(help="Only evaluations of this scheme", autocompletion=completion.complete_schemes)
    ] = "",
    dataset: Annotated[
        str,
        typer.Option(help="Only evaluations on this dataset (name or id)", autocompletion=completion.complete_dataset),
    ] = "",
    tag: Annotated[str, typer.Option(help="Only evaluations with this tag")] = "",
    url: Url = None,
    token: Token = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """List the evaluations of the account, newest first."""
    with connect(url, token, state) as client:
        items = list(client.evaluations.list(q=name, status=status, scheme=scheme, dataset=dataset, tag=tag))
        defaults = {} if as_json else {each["name"]: _default_settings(each) for each in client.schemes()}
    from rich.text import Text

    from unveil.app.cli.console import verdict_text
    from unveil.app.report.evaluation import EvaluationVerdict
    from unveil.app.report.labels import label
    from unveil.app.report.narrative import badge

    rows = []
    for item in items:
        lines = [Text(item["name"], style="bold")]
        lines += [Text(", ".join(item["tags"]), style="dim")] if item["tags"] else []
        lines += [
            Text.assemble(
                f"{label(verdict.scheme, defaults=defaults.get(verdict.scheme['name'], {}))}: ",
                verdict_text(verdict.verdict, badge(verdict)),
            )
            for verdict in map(EvaluationVerdict.from_json, item["verdicts"])
        ]
        cells = f"{item['progress']['done']}/{item['progress']['total']}"
        rows.append((stacked(item["id"], *lines), item["status"], cells, format_date(item["created_at"])))
    print_items(as_json, items, ("id", "status", "cells", "created"), rows, ["id"])


@evaluations.command()
def show(
    id: EvaluationId,
    watch: Annotated[bool, typer.Option("--watch", help="Wait until the evaluation ends")] = False,
    url: Url = None,
    token: Token = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Print the tables of an evaluation. A running evaluation shows the cells that have ended."""
    with connect(url, token, state) as client:
        evaluation = get_evaluation(client, id)
        if watch:
            _wait_and_print(evaluation, as_json)
        else:
            _print_evaluation(evaluation, as_json)


@evaluations.command()
def wait(
    id: EvaluationId,
    fail_on: FailOnOption = None,
    junit: Junit = None,
    summary: Summary = None,
    url: Url = None,
    token: Token = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Wait until an evaluation ends and print its tables. --fail-on lets a build fail on its verdicts."""
    with connect(url, token, state) as client:
        _wait_and_print(get_evaluation(client, id), as_json, fail_on, junit, summary)


@evaluations.command()
def edit(
    id: EvaluationId,
    name: Annotated[str | None, typer.Option(help="New name")] = None,
    tags: Annotated[str | None, typer.Option(help="All tags, comma-separated; '' removes them")] = None,
    notes: Annotated[str | None, typer.Option(help="Plain text for the page and the report; '' removes it")] = None,
    url: Url = None,
    token: Token = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Change the name, the tags or the notes of an evaluation."""
    if name is None and tags is None and notes is None:
        raise UsageError("names no change; give --name, --tags or --notes")
    tag_list = None if tags is None else [tag for tag in map(str.strip, tags.split(",")) if tag]
    with connect(url, token, state) as client:
        evaluation = get_evaluation(client, id)
        evaluation.update(name=name, tags=tag_list, notes=notes)
    print_result(as_json, evaluation.raw, ", ".join([evaluation.name, *evaluation.tags]))


@evaluations.command()
def cancel(id: EvaluationId, url: Url = None, token: Token = None, state: State = None, as_json: Json = False) -> None:
    """Cancel an evaluation. Results of finished cells are kept."""
    with connect(url, token, state) as client:
        evaluation = get_evaluation(client, id).cancel()
    print_result(as_json, evaluation.raw, evaluation.status)


@evaluations.command()
def delete(
    id: EvaluationId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation")] = False,
    url: Url = None,
    token: Token = None,
    state: State = None,
) -> None:
    """Delete a finished evaluation with all its images and results."""
    with connect(url, token, state) as client:
        evaluation = get_evaluation(client, id)
        if not yes:
            counted = f"{evaluation.name!r}, {evaluation.progress.total} cells"
            typer.confirm(f"Delete {evaluation.id} ({counted}) with all images and results?", abort=True, err=True)
        evaluation.delete()


def _default_settings(scheme: Scheme) -> dict[str, Any]:
    """The settings of the paper, which labels leave out."""
    properties = scheme["parameters"].get("properties", {})
    defaults = {name: setting.get("default") for name, setting in properties.items()}
    return defaults | scheme["profiles"].get("paper", {})


def get_evaluation(client: Client, id: str) -> Evaluation:
    return client.evaluations.get(references.evaluation_id(client, id))


def _wait_and_print(
    evaluation: Evaluation,
    as_json: bool,
    fail_on: FailOn | None = None,
    junit: Path | None = None,
    summary: Path | None = None,
) -> None:
    """Prints the tables. Raises typer.Exit if a verdict is not accepted, CommandFailed if the evaluation failed."""
    from unveil.app.client.progress_bar import progress_bar

    with progress_bar(stderr()) as update_bar:
        evaluation.wait(progress=update_bar)
    _print_evaluation(evaluation, as_json)
    if junit or summary:
        gate.write_files(evaluation.table(), fail_on, junit, summary)
    gate.exit_if_met(fail_on, [verdict.verdict for verdict in evaluation.verdicts])
    if evaluation.status == "cancelled":
        raise CommandFailed(
            f"{evaluation.id} was cancelled; results of finished cells are kept. `unveil evaluate` starts a new one"
        )
    if evaluation.status != "succeeded":
        raise CommandFailed(f"{evaluation.id} {evaluation.status}: {_failure_reasons(evaluation)}")


def _print_evaluation(evaluation: Evaluation, as_json: bool) -> None:
    if as_json:
        print_json(evaluation.raw)
    else:
        from unveil.app.cli.evaluation_table import render  # brings the catalog, which other commands do not need

        stdout().print(render(evaluation.table()))


def _failure_reasons(evaluation: Evaluation) -> str:
    view = evaluation.view
    failed = [job for job in (*view.cells, *view.utility) if job.status == "failed"]
    return "; ".join(f"{_job_name(job)}: {job.error.detail if job.error else 'no reason given'}" for job in failed)


def _job_name(job: Job) -> str:
    from unveil.app.report.evaluation import Cell

    return f"{job.attack['name'] if isinstance(job, Cell) else 'utility'} on {job.scheme['name']}"
