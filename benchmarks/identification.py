"""CPU time and peak memory of identifying reconstructions among all originals, by every comparison."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.results import Goal, Row
from unveil.models.data.dead_leaves import dead_leaves
from unveil.models.evaluation.key_evidence import collect_evidence
from unveil.models.metrics.gallery import build_gallery
from unveil.models.metrics.matching import match


def identification() -> Iterator[Row]:
    """From images to the evidence of a verdict; galleries above 1,000 are sampled."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:  # a process each: its own peak
        for count, goal in ((500, 10), (8_000, 120)):
            seconds, memory = pool.apply(_measure, (count,))
            name = f"identification of {count:,} images of 96x96"
            yield Row(f"{name}, CPU time", "s", seconds, goal=Goal("at most", goal))
            yield Row(f"{name}, peak memory beyond the images", "MiB", memory, goal=Goal("at most", 1024))


def _measure(count: int) -> tuple[float, float]:
    originals = dead_leaves(count, seed=0)
    reconstructed = np.random.default_rng(0).integers(0, 256, originals.shape, dtype=np.uint8)
    memory_before, started_at = _peak_mib(), time.process_time()
    collect_evidence(match(reconstructed, originals, build_gallery(originals)))
    return time.process_time() - started_at, _peak_mib() - memory_before


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
