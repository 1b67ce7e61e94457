"""Time and memory of audits by the attacks that train nothing, for every built-in scheme and for unknown functions.

    python -m benchmarks.audits --data DIR --out FILE.json
    python -m benchmarks.audits --data DIR --scheme tanaka --attack linkage --device cpu

DIR holds `natural96`; without --data the images are synthetic. Each audit runs in a process of its own, so that peak
memory is its own. On a busy machine only CPU seconds (user and system, of all threads) are comparable.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import unveil
from unveil.models import catalog
from unveil.models.core.images import Images
from unveil.models.data.datasets import load_folder
from unveil.models.data.dead_leaves import dead_leaves

_IMAGES = 500


def _block_shuffle(images: Images) -> Images:
    """A permutation of the values of each 8x8 block."""
    rows, columns = images.shape[1] // 8, images.shape[2] // 8
    order = np.random.default_rng(7).permutation(192)
    blocks = images.reshape(-1, rows, 8, columns, 8, 3).swapaxes(2, 3)
    return blocks.reshape(-1, 192)[:, order].reshape(blocks.shape).swapaxes(2, 3).reshape(images.shape)


def _keystream(images: Images) -> Images:
    """A keystream that depends on the image: no attack finds structure, so every attempt is made."""
    streams = [hashlib.shake_256(b"key" + image.tobytes()).digest(image.nbytes) for image in images]
    return images ^ np.frombuffer(b"".join(streams), np.uint8).reshape(images.shape)


FUNCTIONS: dict[str, Callable[[Images], Images]] = {
    "function: block shuffle": _block_shuffle,
    "function: keystream of the image": _keystream,
}


@dataclass(frozen=True)
class Measured:
    """cpu_s, wall_s: of the audit, without imports. peak_mib: of the process."""

    scheme: str
    verdict: str
    because: str
    cpu_s: float
    wall_s: float
    peak_mib: float
    attacks: dict[str, float]  # seconds of each cell
    linkage: dict[str, Any] | None
    digest: str


def measure(scheme: str, data: str | None, attacks: Sequence[str], profile: str, device: str) -> Measured:
    images = dead_leaves(_IMAGES, seed=0) if data is None else load_folder(Path(data) / "natural96").test[:_IMAGES]
    chosen = list(attacks) or _without_training(profile)
    started_at, before = time.monotonic(), _cpu_seconds()
    report = unveil.audit(
        FUNCTIONS.get(scheme, scheme), images, attacks=chosen, profile=profile, device=device, progress=False
    )
    cpu_s, wall_s = _cpu_seconds() - before, time.monotonic() - started_at
    linked = [attack.result.linkage for attack in report if attack.result and attack.result.linkage]
    return Measured(
        scheme, report.verdict, report.because, round(cpu_s, 1), round(wall_s, 1),
        round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        {attack.name: attack.result.seconds for attack in report if attack.result},
        asdict(linked[0]) if linked else None, report.digest,
    )  # fmt: skip


def _without_training(profile: str) -> list[str]:
    return [name for name in catalog.attacks() if not catalog.make_attack(name, {}, profile).trains_network()]


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with natural96; by default synthetic images")
    parser.add_argument("--scheme", action="append", help="a name with settings; by default every scheme and function")
    parser.add_argument("--attack", action="append", default=[], help="by default every attack that trains nothing")
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    known = [
        ":".join(
            [
                scheme.name,
                *(
                    f"{name}={value if isinstance(value, str) else json.dumps(value)}"
                    for name, value in vars(scheme.settings).items()
                ),
            ]
        )
        for scheme in catalog.known_ciphers()
    ]
    machine = f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {platform.processor() or platform.machine()}"
    results = []
    for scheme in options.scheme or [*known, *FUNCTIONS]:
        load = os.getloadavg()[0]
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:  # a process each: its own peak
            found = pool.apply(measure, (scheme, options.data, options.attack, options.profile, options.device))
        results.append({**asdict(found), "load_before": round(load, 1)})
        slowest = sorted(found.attacks.items(), key=lambda item: -item[1])[:3]
        print(
            f"{scheme}: CPU {found.cpu_s} s, wall {found.wall_s} s, {found.peak_mib} MiB, {found.verdict}, load "
            f"{load:.1f}; " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in slowest),
            flush=True,
        )
        if options.out:
            options.out.write_text(json.dumps({"machine": machine, "audits": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
