"""`python -m benchmarks.board --out docs/board`: measure the board of all built-in schemes, and publish it.

Every variant of every built-in scheme (those with trained keys at the profile's settings) runs under every attack that
applies, one evaluation a scheme, the cheapest scheme and its cheapest attack first. The estimate is printed before
anything starts; `--estimate` stops there. Run the command again to resume: the state folder keeps finished cells and
trained keys, and evaluations that have succeeded are not repeated. The output holds numbers only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from unveil.app.board.site import write_site
from unveil.app.client.client import Client
from unveil.app.client.errors import Invalid
from unveil.app.client.evaluation import Evaluation
from unveil.app.client.progress_bar import progress_bar
from unveil.app.evaluations.cost import estimate_cost
from unveil.app.evaluations.planning import plan_evaluation
from unveil.app.evaluations.schemas import EvaluationCreate
from unveil.app.local.stack import LocalStack
from unveil.app.report.board import Board
from unveil.app.report.labels import label
from unveil.models import catalog
from unveil.models.catalog import DatasetInfo
from unveil.models.core.profiles import PROFILES
from unveil.models.core.version import __version__, package_versions

_POLL_INTERVAL_S = 0.5
console = Console()


@dataclass(frozen=True)
class Order:
    """An evaluation of one scheme; attacks: the cheapest first."""

    name: str
    scheme: dict[str, Any]
    attacks: list[dict[str, Any]]
    core_seconds: float
    request: dict[str, Any]


def plan_orders(images: DatasetInfo, options: dict[str, Any], names: Sequence[str]) -> list[Order]:
    """The cheapest scheme first. names: of schemes; empty for all built-in ones."""
    attacks = [name for name in catalog.attacks() if "/" not in name]
    whole = [scheme for scheme in catalog.known_ciphers() if scheme.missing_part is None]  # the board shows no others
    drawn = [catalog.flatten_settings(scheme) for scheme in whole]
    trained = [{"name": name} for name, cls in catalog.schemes().items() if cls.trains]
    entries = [entry for entry in drawn + trained if "/" not in entry["name"] and (not names or entry["name"] in names)]
    orders = []
    for entry in entries:
        name = f"board: {label(entry)}, {options['profile']}, seed {options['seed']}, Unveil {__version__}"
        request = {**options, "name": name, "schemes": [entry], "attacks": [{"name": attack} for attack in attacks]}
        body = EvaluationCreate.model_validate(request)
        planned = plan_evaluation(body, {}, (images.height, images.width))
        cost = estimate_cost(planned.cells, planned.keys, {None: images}, body.profile, body.keys, None)
        priced = sorted(zip(cost.cells, planned.cells, strict=True), key=lambda pair: pair[0])
        applicable = [cell.attack for _, cell in priced if cell.not_applicable_reason is None]
        chosen = [attack for attack in applicable if attack["name"] in attacks]
        orders.append(Order(name, entry, chosen, cost.core_seconds, {**request, "attacks": chosen}))
    return sorted(orders, key=lambda order: order.core_seconds)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.board")
    parser.add_argument("--out", type=Path, default=Path("docs/board"), help="folder for the site")
    parser.add_argument("--state", type=Path, default=Path(".state/board"), help="folder that keeps finished cells")
    parser.add_argument("--dataset", default="sample")
    parser.add_argument("--profile", default="quick", choices=PROFILES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--schemes", default="", help="comma-separated names; default: all built-in")
    parser.add_argument("--utility", action="store_true", help="also measure how much accuracy a classifier loses")
    parser.add_argument("--workers", type=int, default=1, help="attacks at once")
    parser.add_argument("--estimate", action="store_true", help="print the estimate and stop")
    args = parser.parse_args()
    names = [name for name in args.schemes.split(",") if name]
    options = {
        "dataset": args.dataset, "profile": args.profile, "seed": args.seed, "samples": 0, "utility": args.utility,
    }  # fmt: skip
    started = time.monotonic()
    with LocalStack(args.state, 0, attack_workers=args.workers) as stack, Client(stack.url, stack.token) as client:
        dataset = client.datasets.get(args.dataset)
        images = DatasetInfo(dataset["name"], dataset["train"], dataset["test"], dataset["width"], dataset["height"])
        orders = plan_orders(images, options, names)
        finished = {item["name"]: item["id"] for item in client.evaluations.list() if item["status"] == "succeeded"}
        console.print(_estimate_table(orders, finished))
        if args.estimate:
            return 0
        evaluations = {}
        for order in orders:
            try:
                evaluations[order.name] = _run(client, order)
            except Invalid as refusal:  # such as a key that cannot be trained on these images
                console.print(f"{order.name}: not measured: {refusal}")
        board = _read_board(client, args.dataset, args.profile)
        write_site(board, args.out)
    measurement = _measurement(args, orders, evaluations, board, time.monotonic() - started)
    (args.out / "measurement.json").write_text(json.dumps(measurement, indent=2) + "\n")
    console.print(f"wrote {args.out / 'index.html'}: {len(board.rows)} rows")
    return 0 if all(evaluation.status == "succeeded" for evaluation in evaluations.values()) else 1


def _run(client: Client, order: Order) -> Evaluation:
    """The order's evaluation: one that has succeeded or still runs, or else a new one."""
    own = [item for item in client.evaluations.list() if item["name"] == order.name]
    id = next((item["id"] for item in own if item["status"] in ("queued", "running", "succeeded")), None)
    evaluation = client.evaluations.create(**order.request) if id is None else client.evaluations.get(id)
    console.print(f"{order.name}: {evaluation.id}")
    with progress_bar(console) as show:
        evaluation.wait(progress=show)
    for verdict in evaluation.verdicts:
        console.print(f"  {verdict.verdict}: {verdict.because}")
    return evaluation


def _read_board(client: Client, dataset: str, profile: Any) -> Board:
    while (board := client.board(dataset, profile)).pending:
        time.sleep(_POLL_INTERVAL_S)
    return board


def _estimate_table(orders: Sequence[Order], finished: dict[str, str]) -> Table:
    table = Table("evaluation", "attacks", "core hours")
    for order in orders:
        hours = "done" if order.name in finished else f"{order.core_seconds / 3600:.3f}"
        table.add_row(order.name, str(len(order.attacks)), hours)
    open_seconds = sum(order.core_seconds for order in orders if order.name not in finished)
    table.add_row("to do, good to a factor of three", "", f"{open_seconds / 3600:.3f}")
    return table


def _measurement(
    args: argparse.Namespace,
    orders: Sequence[Order],
    evaluations: Mapping[str, Evaluation],
    board: Board,
    duration_s: float,
) -> dict[str, Any]:
    """How the board was measured. seconds: of the cells of each evaluation."""
    return {
        "command": f"python -m benchmarks.board --dataset {args.dataset} --profile {args.profile} --seed {args.seed}"
        + (f" --schemes {args.schemes}" if args.schemes else "")
        + (" --utility" if args.utility else ""),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "dataset": board.dataset,
        "dataset_sha256": board.dataset_sha256,
        "rules_version": board.rules_version,
        "versions": dict(package_versions()),
        "machine": {
            "platform": f"{platform.system()} {platform.machine()}",
            "cores": len(os.sched_getaffinity(0)),
            "workers": args.workers,
        },
        "seconds_of_last_run": round(duration_s),
        "estimated_core_hours": round(sum(order.core_seconds for order in orders) / 3600, 4),
        "evaluations": [
            {
                "name": name,
                "status": evaluation.status,
                "seed": args.seed,
                "seconds": round(sum(cell.result.seconds for cell in evaluation.cells if cell.result), 1),
            }
            for name, evaluation in evaluations.items()
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
