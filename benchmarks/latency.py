"""How long POST /encrypt takes on a running stack: `python -m benchmarks.latency --state .state/up`."""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from models.datasets import dead_leaves
from models.images import to_png


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency")
    parser.add_argument("--state", type=Path, default=Path(".state/up"), help="folder of a running `unveil local`")
    parser.add_argument("--requests", type=int, default=200)
    given = parser.parse_args()
    url = (given.state / "address").read_text().strip()
    token = (given.state / "token").read_text().strip()
    pictures = [to_png(image) for image in dead_leaves(64, seed=0)]
    shown = Table("scheme", "images", "requests", "p50", "p99", "images/s")
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as http:
        for scheme in ("pixelwise", "tanaka"):
            for images in (1, 64):
                requests = given.requests if images == 1 else max(20, given.requests // 5)
                for _ in range(5):  # to warm connections and workers
                    _once(http, scheme, pictures[:images])
                times = sorted(_once(http, scheme, pictures[:images]) for _ in range(requests))
                middle, late = statistics.median(times), times[min(requests - 1, round(requests * 0.99))]
                shown.add_row(
                    scheme, str(images), str(requests), f"{middle * 1e3:.1f} ms", f"{late * 1e3:.1f} ms",
                    f"{images / middle:.0f}",
                )  # fmt: skip
    console = Console()
    console.print(shown)
    api = psutil.Process(int((given.state / "run" / "api.pid").read_text().split()[0]))
    console.print(f"memory of the API process: {api.memory_info().rss / 2**20:.0f} MiB")


def _once(http: httpx.Client, scheme: str, pictures: list[bytes]) -> float:
    files = [("images", (f"{i}.png", picture, "image/png")) for i, picture in enumerate(pictures)]
    start = time.perf_counter()
    http.post("/encrypt", data={"scheme": scheme}, files=files).raise_for_status()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
