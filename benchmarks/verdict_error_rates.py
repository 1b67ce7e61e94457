"""Error rates of the verdict rules, by simulation at the level of similarities.

    python -m benchmarks.verdict_error_rates --evaluations 2000 --images 500 --out FILE.json

The script computes the similarities of a pool of reconstructions with all originals once, by every comparison. A
simulated evaluation draws attacks x keys sets of reconstructions from the pool, pairs them with the originals at
random, and goes through the product's own evidence and verdict rules. Four scenarios carry no information about the
originals: `noise`, `dark noise`, unrelated `images`, and `mixed` (noise with one unrelated image in twenty). In the
others a leak replaces a share of one attack's reconstructions under one key.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images
from unveil.models.core.verdict_rules.coverage import RequiredAttack
from unveil.models.core.verdict_rules.evidence import CellEvidence
from unveil.models.core.verdict_rules.rules import scheme_verdict
from unveil.models.core.verdict_rules.types import EvaluatedScheme
from unveil.models.data.datasets import load_folder
from unveil.models.data.dead_leaves import dead_leaves
from unveil.models.evaluation.key_evidence import Nulls, collect_evidence, null_distributions
from unveil.models.metrics.comparisons import COMPARISON_NAMES, COMPARISONS, SHIFT
from unveil.models.metrics.gallery import build_gallery
from unveil.models.metrics.matching import ComparisonScores, Matches, gap_p_values, similarities
from unveil.models.metrics.significance import fit_null

NULL_PAIRS = 10_000  # similarities that a null distribution is fitted to; the product takes 250,000 where there are
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pool:
    """similarity: [R, G, comparisons]. best: [R, comparisons], the gallery image ranked first; gap: its p-value.

    first, size: where each kind of reconstruction begins among the rows, and how many there are.
    """

    similarity: Floats
    best: npt.NDArray[np.int64]
    gap: npt.NDArray[np.float64]
    first: Mapping[str, int]
    size: Mapping[str, int]


def make_pool(kinds: Mapping[str, Images], originals: Images) -> Pool:
    gallery = build_gallery(originals)
    rows = sum(len(images) for images in kinds.values())
    similarity = np.empty((rows, gallery.size, len(COMPARISON_NAMES)), np.float32)
    first, start = {}, 0
    for kind, images in kinds.items():  # the product standardizes features over one set: each kind is a set
        found = similarities(images, gallery)
        first[kind] = start
        for number, name in enumerate(COMPARISON_NAMES):
            similarity[start : start + len(images), :, number] = found[name]
        start += len(images)
    best = similarity.argmax(axis=1)
    gap = np.stack([gap_p_values(similarity[..., number]) for number in range(similarity.shape[2])], axis=1)
    shift = COMPARISON_NAMES.index(SHIFT)
    nominated = np.zeros(similarity.shape[:2], np.bool_)
    for number, comparison in enumerate(COMPARISONS):
        if comparison.nominates:
            top = np.argpartition(similarity[..., number], -4, axis=1)[:, -4:]
            np.put_along_axis(nominated, top, True, axis=1)
    best[:, shift] = np.where(nominated, similarity[..., shift], -1).argmax(axis=1)
    gap[:, shift] = 1
    return Pool(similarity, best, gap, first, {kind: len(images) for kind, images in kinds.items()})


def save_pool(pool: Pool, path: Path) -> None:
    kinds = np.array(list(pool.first))
    layout = np.array([[pool.first[kind], pool.size[kind]] for kind in pool.first])
    with path.open("wb") as file:
        np.savez(file, similarity=pool.similarity, best=pool.best, gap=pool.gap, kinds=kinds, layout=layout)


def load_pool(path: Path) -> Pool:
    with np.load(path) as stored:
        kinds, layout = stored["kinds"].tolist(), stored["layout"].tolist()
        first = {kind: begin for kind, (begin, _) in zip(kinds, layout, strict=True)}
        size = {kind: count for kind, (_, count) in zip(kinds, layout, strict=True)}
        return Pool(stored["similarity"], stored["best"], stored["gap"], first, size)


def matches(pool: Pool, rows: npt.NDArray[np.int64], truth: npt.NDArray[np.int64], rng: np.random.Generator) -> Matches:
    """The product's `Matches` of reconstructions `rows` whose originals are `truth`."""
    count, gallery = len(rows), pool.similarity.shape[1]
    if count * gallery <= 2 * NULL_PAIRS:
        i, j = (pairs.ravel() for pairs in np.indices((count, gallery)))
    else:
        i, j = rng.integers(0, count, NULL_PAIRS), rng.integers(0, gallery, NULL_PAIRS)
    other = truth[i] != j
    unrelated = np.ascontiguousarray(pool.similarity[rows[i[other]], j[other]].T)
    own, best, gap = pool.similarity[rows, truth], pool.best[rows], pool.gap[rows]
    rank = np.where(best == truth[:, None], 1, 2)
    scores = tuple(
        ComparisonScores(
            name, own[:, c], own[:, c], rank[:, c], best[:, c], gap[:, c], 1 / gallery,
            fit_null(unrelated[c], i[other]), best[:, c, None], own[:, c, None],
        )
        for c, name in enumerate(COMPARISON_NAMES)
    )  # fmt: skip
    positions = np.full(gallery, -1, np.int64)  # gallery image truth[i] is the original of reconstruction i
    positions[truth] = np.arange(count)
    return Matches(scores, positions, gallery, float(gallery), gallery)


@dataclass(frozen=True)
class Scenario:
    """null: kinds of row that the cells take, at these shares. leak: kind that replaces `share` of one cell's rows."""

    name: str
    null: Mapping[str, float]
    expected: str
    leak: str | None = None
    share: float = 0.0


def simulate(pool: Pool, scenario: Scenario, options: argparse.Namespace, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    count, gallery = options.images, pool.similarity.shape[1]
    names = [f"attack-{number}" for number in range(options.attacks)]
    required = tuple(RequiredAttack(name, "ciphertext-only") for name in names)
    kinds, shares = list(scenario.null), np.array(list(scenario.null.values()))

    def draw() -> npt.NDArray[np.int64]:
        kind = rng.choice(len(kinds), count, p=shares)
        rows = np.empty(count, np.int64)
        for number, name in enumerate(kinds):
            of = kind == number
            rows[of] = pool.first[name] + rng.choice(pool.size[name], int(of.sum()), replace=False)
        return rows

    verdicts: Counter[str] = Counter()
    detail: Counter[str] = Counter()
    bounds = []
    for _ in range(options.evaluations):
        cells = []
        for number, name in enumerate(names):
            noise = pool.first["noise"] + rng.choice(pool.size["noise"], count, replace=False)
            control: Nulls = null_distributions(matches(pool, noise, rng.permutation(gallery)[:count], rng))
            keys = []
            for key in range(options.keys):
                rows, truth = draw(), rng.permutation(gallery)[:count]
                if scenario.leak and number == key == 0:
                    leaking = rng.choice(count, round(scenario.share * count), replace=False)
                    rows[leaking] = pool.first[scenario.leak] + truth[leaking]
                keys.append(collect_evidence(matches(pool, rows, truth, rng), control))
            cells.append(
                CellEvidence(
                    name, "ciphertext-only", {}, "succeeded", keys=tuple(keys),
                    controls={"positive": "passed", "negative": "passed"}, gallery=gallery, effective_gallery=gallery,
                )
            )  # fmt: skip
        found, _ = scheme_verdict(EvaluatedScheme(tuple(cells), required))
        verdicts[found.verdict] += 1
        detail[found.because.split(":")[0][:40]] += 1
        if found.power:
            bounds.append(found.power.upper_bound)
    return {
        "scenario": scenario.name, "evaluations": options.evaluations, "images": count, "gallery": gallery,
        "attacks": options.attacks, "keys": options.keys, "verdicts": dict(verdicts),
        "upper_bound_quantiles": np.quantile(bounds, [0.05, 0.5, 0.95]).round(4).tolist(),
        "first_words": dict(detail.most_common(4)),
    }  # fmt: skip


def leak_kinds(originals: Images, rng: np.random.Generator) -> dict[str, Images]:
    from scipy.ndimage import gaussian_filter

    noise = rng.integers(0, 256, originals.shape)
    half_height, half_width = originals.shape[1] // 2, originals.shape[2] // 2
    return {
        "clear": originals,
        "mirrored": np.ascontiguousarray(originals[:, :, ::-1]),
        "turned": np.ascontiguousarray(np.rot90(originals, 1, (1, 2))),
        "shifted": np.roll(originals, (5, 5), (1, 2)),
        "quarters swapped": np.roll(originals, (half_height, half_width), (1, 2)),
        "blurred": np.stack([gaussian_filter(image, (3, 3, 0)) for image in originals]),
        "noisy": np.clip(0.2 * originals + 0.8 * noise, 0, 255).astype(np.uint8),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with test images; by default synthetic dead-leaves images")
    parser.add_argument("--evaluations", type=int, default=2000)
    parser.add_argument("--leak-evaluations", type=int, default=200)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--attacks", type=int, default=10)
    parser.add_argument("--keys", type=int, default=3)
    parser.add_argument("--pool", type=int, default=4000, help="noise images to draw from")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument(
        "--pool-file", type=Path, help="keep the similarities here, and take them from here if they are"
    )
    parser.add_argument("--only", help="comma-separated scenarios")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    count = options.images
    if options.data:
        data = load_folder(Path(options.data))
        originals, others = data.test[:count], data.train[: 2 * count]
    else:
        originals, others = dead_leaves(count, seed=1), dead_leaves(2 * count, seed=2)
    shape = originals.shape[1:]
    kinds: dict[str, Images] = {
        "noise": rng.integers(0, 256, (options.pool, *shape), dtype=np.uint8),
        "dark noise": rng.integers(0, 128, (2 * count, *shape), dtype=np.uint8),
        "images": others,
    }
    leaks = leak_kinds(originals, rng)
    started = time.monotonic()
    pool = load_pool(options.pool_file) if options.pool_file and options.pool_file.is_file() else None
    if pool is None:
        pool = make_pool({**kinds, **leaks}, originals)
        if options.pool_file:
            save_pool(pool, options.pool_file)
    print(f"pool: {time.monotonic() - started:.0f} s", flush=True)
    scenarios = [
        Scenario("noise", {"noise": 1}, "no leak found"),
        Scenario("dark noise", {"dark noise": 1}, "no leak found"),
        Scenario("images", {"images": 1}, "no leak found"),
        Scenario("mixed", {"noise": 0.95, "images": 0.05}, "no leak found"),
        *(Scenario(f"5% {name}", {"noise": 1}, "leaks", name, 0.05) for name in leaks),
    ]
    only = options.only.split(",") if options.only else None
    results = []
    for number, scenario in enumerate(scenarios):
        if only and scenario.name not in only:
            continue
        started = time.monotonic()
        evaluations = options.leak_evaluations if scenario.leak else options.evaluations
        of = argparse.Namespace(**{**vars(options), "evaluations": evaluations})
        result = simulate(pool, scenario, of, options.seed + 1000 * number)
        result |= {"expected": scenario.expected, "seconds": round(time.monotonic() - started)}
        results.append(result)
        print(json.dumps(result), flush=True)
        if options.out:
            options.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
