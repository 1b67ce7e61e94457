"""`python -m benchmarks.paper_table --data DIR --out OUT`: the keyed half of the paper's Table 1, at its settings.

Hours on a CPU. Trainings are saved once a minute, finished cells at once, and the same command continues. Several
processes may share OUT, each with other cells (`--schemes`, `--attacks`). With `--only-print`, the table of the cells
that have finished.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

from unveil.models.catalog import flatten_settings, make_attack, make_scheme, parse_spec
from unveil.models.core.cell_result import CellResult
from unveil.models.core.checkpoints import DirectoryStore
from unveil.models.core.run_context import RunContext
from unveil.models.data.datasets import load_folder
from unveil.models.evaluation.cell import run_cell
from unveil.models.evaluation.cli import write_cell
from unveil.models.evaluation.scoring import ScoringOptions
from unveil.models.metrics.ssim import SsimMode

SCHEMES = ("pixelwise:same", "pixelwise:different", "tanaka")
ATTACKS = ("fr", "itn", "gan")
SSIM_MODES: tuple[SsimMode, ...] = ("rgb7", "mean7", "ycbcr-gauss11")  # ours, and two that meet the paper's FR values


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper_table")
    parser.add_argument("--data", type=Path, required=True, help="the dataset's folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--schemes", nargs="+", default=SCHEMES)
    parser.add_argument("--attacks", nargs="+", default=ATTACKS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only-print", action="store_true", help="measure nothing")
    args = parser.parse_args()
    if not args.only_print:
        for scheme, attack in product(args.schemes, args.attacks):
            run(scheme, attack, args.data, args.seed, args.out)
    for line in rows(args.out):
        print(line)
    return 0


def run(scheme_spec: str, attack_spec: str, data: Path, seed: int, out: Path) -> None:
    """Trains once and scores in each mode, which repeats nothing but the attack on the test images."""
    dataset = load_folder(data)
    for mode in SSIM_MODES:
        folder = out / f"{scheme_spec.replace(':', '-')}-{attack_spec}-{seed}"
        target = folder / mode
        if (target / "result.json").exists():
            continue
        target.mkdir(parents=True, exist_ok=True)
        scheme = make_scheme(*parse_spec("scheme", scheme_spec), "paper")
        attack = make_attack(*parse_spec("attack", attack_spec), "paper")
        options = ScoringOptions(seed=seed, ssim_mode=mode, profile="paper")
        context = RunContext(
            seed=seed,
            checkpoints=DirectoryStore(folder / "checkpoints"),
            report=_progress(f"{scheme_spec} {attack_spec} {mode}"),
            memoize=_memoize(DirectoryStore(out / "shared")),
        )
        outcome = run_cell(scheme, attack, dataset, options, context)
        settings = {
            "scheme": flatten_settings(scheme),
            "attack": flatten_settings(attack),
            "data": dataset.name,
            **vars(options),
        }
        write_cell(outcome, settings, target)


def _memoize(store: DirectoryStore) -> Callable[[str, Callable[[], bytes]], bytes]:
    """Keeps results in `store`, so that cells share their controls."""

    def memoize(name: str, compute: Callable[[], bytes]) -> bytes:
        file_name = hashlib.sha256(name.encode()).hexdigest()
        held = store.read(file_name)
        if held is None:
            held = compute()
            store.write(file_name, held)
        return held

    return memoize


def _progress(cell: str) -> Callable[[float, str], None]:
    last = time.monotonic()

    def report(fraction: float, phase: str) -> None:
        nonlocal last
        if time.monotonic() - last > 60:
            last = time.monotonic()
            print(f"{time.strftime('%H:%M')} {cell}: {fraction:.1%}, {phase}", file=sys.stderr, flush=True)

    return report


def rows(out: Path) -> Iterator[str]:
    yield "| scheme | attack | seed | rgb7 | mean7 | ycbcr-gauss11 | paper | identified | controls | minutes |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for scheme, attack in product(SCHEMES, ATTACKS):
        for folder in sorted(out.glob(f"{scheme.replace(':', '-')}-{attack}-*")):
            cells = [folder / mode / "result.json" for mode in SSIM_MODES]
            if all(cell.exists() for cell in cells):
                seed = folder.name.rpartition("-")[2]
                yield _row(scheme, attack, seed, [_read_result(cell) for cell in cells])


def _read_result(path: Path) -> CellResult:
    return CellResult.from_json(json.loads(path.read_text())["result"])


def _row(scheme: str, attack: str, seed: str, results: list[CellResult]) -> str:
    first = results[0]
    scores = [f"{s.mean:.3f} [{s.ci_low:.3f}, {s.ci_high:.3f}]" for s in (result.ssim for result in results) if s]
    controls = first.controls.to_json() if first.controls else {}
    columns = [
        *(scheme, attack, seed, *scores, f"{first.paper_ssim:.4f}"),
        f"{first.identification.top1:.1%}" if first.identification else "",
        ", ".join(f"{name} {state}" for name, state in controls.items()),
        f"{first.seconds / 60:.0f}",
    ]
    return f"| {' | '.join(columns)} |"


if __name__ == "__main__":
    sys.exit(main())
