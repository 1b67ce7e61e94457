"""`python -m benchmarks.large_inputs [PART ...]`: the largest evaluation and datasets that the service takes.

`evaluation`: 10,000 cells in one request; its cells wait, so that the figures are those of the API alone. `dataset`:
100,000 images of 96x96 and 5,000 of 224x224, uploaded as one array and attacked, with limits raised to fit. Memory is
the peak of each process with its children, sampled ten times a second, without the files that it maps; a stall is the
longest time for which the API answered nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil

from benchmarks import fixtures
from unveil.app.client.client import Client
from unveil.app.local.stack import LocalStack
from unveil.models.data.dead_leaves import dead_leaves

_PLUGIN = Path(__file__).with_name("sleeping_scheme.py")
_ENVIRONMENT = {
    "UNVEIL_PLUGINS": str(_PLUGIN),
    "UNVEIL_REQUESTS_PER_SECOND": "1000000",
    "UNVEIL_MAX_ACTIVE_JOBS": "100000",
    "UNVEIL_MAX_COST_CORE_HOURS": "1000000000",
    **{f"UNVEIL_{name}": str(8 * 2**30) for name in ("MAX_UPLOAD_BYTES", "MAX_UNPACKED_BYTES", "MAX_DATASET_BYTES")},
}
_CELLS_A_SIDE = 100
_DATASETS = ((5_000, 224), (100_000, 96))
_SAMPLE_INTERVAL_S = 0.1


@dataclass
class Watch:
    """What was seen while something ran."""

    peak_mib: dict[str, float] = field(default_factory=dict)
    stall_s: float = 0.0

    def __str__(self) -> str:
        peaks = ", ".join(f"{name} {value:.0f}" for name, value in self.peak_mib.items())
        return f"peak MiB: {peaks}; stall {self.stall_s:.2f} s"


@contextmanager
def watching(stack: LocalStack) -> Iterator[Watch]:
    watch, stopped = Watch(), threading.Event()
    threads = [threading.Thread(target=run, args=(stack, watch, stopped)) for run in (_watch_memory, _watch_stalls)]
    for thread in threads:
        thread.start()
    try:
        yield watch
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def _watch_memory(stack: LocalStack, watch: Watch, stopped: threading.Event) -> None:
    while not stopped.wait(_SAMPLE_INTERVAL_S):
        for file in (stack.state / "run").glob("*.pid"):
            try:
                leader = psutil.Process(int(file.read_text().split()[0]))
                family = [leader, *leader.children(recursive=True)]
                infos = [process.memory_info() for process in family]
                held = sum(info.rss - info.shared for info in infos) / 2**20
            except (psutil.Error, ValueError, IndexError):
                continue  # it starts or ends at this moment
            watch.peak_mib[file.stem] = max(watch.peak_mib.get(file.stem, 0.0), held)


def _watch_stalls(stack: LocalStack, watch: Watch, stopped: threading.Event) -> None:
    with httpx.Client(base_url=stack.url, timeout=600) as http:
        while not stopped.wait(_SAMPLE_INTERVAL_S):
            started_at = time.monotonic()
            http.get("/healthz")
            watch.stall_s = max(watch.stall_s, time.monotonic() - started_at)


def evaluation(stack: LocalStack) -> None:
    side = range(_CELLS_A_SIDE)
    body = {
        "dataset": "sample", "profile": "smoke", "samples": 0, "keys": 1,
        "schemes": [{"name": "benchmark/sleeping", "seconds": 3600, "number": number} for number in side],
        "attacks": [{"name": "none"}, {"name": "fr"}, *({"name": "itn", "epochs": 1 + n} for n in side[:-2])],
    }  # fmt: skip
    with fixtures.client(stack) as http:
        http.timeout = httpx.Timeout(600)
        created: list[str] = []

        def create() -> httpx.Response:
            response = http.post("/evaluations", json=body)
            created.append(response.json()["id"])
            return response

        steps: dict[str, Callable[[], httpx.Response]] = {
            "POST /evaluations/estimate": lambda: http.post("/evaluations/estimate", json=body),
            "POST /evaluations": create,
            "GET /evaluations/{id}": lambda: http.get(f"/evaluations/{created[0]}"),
            "GET /evaluations": lambda: http.get("/evaluations"),
            "its page": lambda: http.get(f"/dashboard/evaluations/{created[0]}"),
            "report.html": lambda: http.get(f"/evaluations/{created[0]}/report.html"),
            "POST /evaluations/{id}/cancel": lambda: http.post(f"/evaluations/{created[0]}/cancel"),
        }
        for name, request in steps.items():
            with watching(stack) as watch:
                started_at = time.monotonic()
                response = request().raise_for_status()
                seconds = time.monotonic() - started_at
                time.sleep(2 * _SAMPLE_INTERVAL_S)
            size = len(response.content) / 1e6
            print(f"{name}: {response.status_code}, {seconds:.2f} s, {size:.1f} MB; {watch}", flush=True)


def dataset(stack: LocalStack) -> None:
    photographs = dead_leaves(64, seed=0)
    with tempfile.TemporaryDirectory(prefix="unveil-bench-") as folder, Client(stack.url, stack.token) as client:
        for count, size in _DATASETS:
            path = Path(folder) / f"{size}.npy"
            repeated = np.tile(photographs, (1, -(-size // 96), -(-size // 96), 1))[:, :size, :size]
            array = np.lib.format.open_memmap(path, "w+", np.uint8, (count, size, size, 3))
            for start in range(0, count, len(repeated)):  # no two images are equal
                part = array[start : start + len(repeated)]
                part[:] = np.roll(repeated, start // len(repeated), axis=2)[: len(part)]
            array.flush()
            with watching(stack) as watch:
                started_at = time.monotonic()
                uploaded = client.datasets.upload(path, name=f"{count} of {size}")
                seconds = time.monotonic() - started_at
            print(f"upload of {count:,} images of {size}x{size}: {seconds:.0f} s; {watch}", flush=True)
            path.unlink()
            with watching(stack) as watch:
                started_at = time.monotonic()
                ended = client.evaluations.create(
                    schemes="tanaka", attacks="none", dataset=uploaded["id"], keys=1, samples=0
                ).wait()
                seconds = time.monotonic() - started_at
            reasons = {cell.error for cell in ended.cells if cell.error}
            print(f"its evaluation: {ended.status} {reasons or ''}, {seconds:.0f} s; {watch}", flush=True)


PARTS: dict[str, Callable[[LocalStack], None]] = {"evaluation": evaluation, "dataset": dataset}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large_inputs")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of: {', '.join(PARTS)}; both by default")
    args = parser.parse_args()
    if unknown := set(args.parts) - {*PARTS}:
        parser.error(f"unknown part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    for part in args.parts or PARTS:
        with (
            tempfile.TemporaryDirectory(prefix="unveil-bench-") as folder,
            LocalStack(Path(folder) / "state", port=0, environment=_ENVIRONMENT) as stack,
        ):
            PARTS[part](stack)


if __name__ == "__main__":
    main()
