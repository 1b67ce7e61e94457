"""The linkage of every built-in scheme, with its controls, beside the identification rate of the ciphertexts alone.

    python -m benchmarks.linkage --data DIR --profile quick --out FILE.json

DIR holds `natural96`. A run continues after the schemes that FILE holds. `--scheme NAME` runs one. Schemes with a
trained key come last and train it first.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unveil.models import catalog
from unveil.models.core.profiles import Profile
from unveil.models.core.run_context import RunContext
from unveil.models.data.datasets import load_folder
from unveil.models.data.image_dataset import ImageDataset
from unveil.models.evaluation.cell import run_cell
from unveil.models.evaluation.scoring import ScoringOptions

# Not a variant of the catalog. A key for each image also inverts values, so that their distribution differs by key.
INVERTED = "vit-permutation:block=8:key_mode=different:negative_positive=true"

_memoized: dict[str, bytes] = {}  # the controls, which all schemes share


def _memoize(name: str, compute: Callable[[], bytes]) -> bytes:
    if name not in _memoized:
        _memoized[name] = compute()
    return _memoized[name]


def measure(spec: str, data: ImageDataset, profile: Profile) -> dict[str, Any]:
    """One row of the table. cpu_s: of the attack `linkage` with those controls that no earlier scheme has run."""
    name, settings = catalog.parse_spec("scheme", spec)
    scheme = catalog.make_scheme(name, settings, profile)
    context = RunContext(memoize=_memoize)
    options = ScoringOptions(seed=0, profile=profile)
    secret = scheme.train(data, context).secret if scheme.trains else None
    started_at, started_wall_at = time.process_time(), time.monotonic()
    linked = run_cell(scheme, catalog.make_attack("linkage", {}, profile), data, options, context, secret=secret)
    cpu_s, wall_s = time.process_time() - started_at, time.monotonic() - started_wall_at
    bare = run_cell(scheme, catalog.make_attack("none", {}, profile), data, options, context, secret=secret)
    assert linked.result.linkage is not None
    assert linked.result.controls is not None
    assert bare.result.identification is not None
    assert bare.result.ssim is not None
    return {
        "scheme": spec, "linkage": vars(linked.result.linkage), "verdict": linked.result.verdict,
        "controls": vars(linked.result.controls), "numbers": linked.result.numbers,
        "without_attack": vars(bare.result.identification), "without_attack_ssim": bare.result.ssim.mean,
        "cpu_s": round(cpu_s, 1), "wall_s": round(wall_s, 1), "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with natural96")
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--scheme", action="append", help="a name with settings; by default every scheme")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    data = load_folder(options.data / "natural96")
    rows = json.loads(options.out.read_text()) if options.out.exists() else []
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
    trained = [name for name, scheme in catalog.schemes().items() if scheme.trains]
    for spec in options.scheme or [*known, INVERTED, *trained]:
        if spec in [row["scheme"] for row in rows]:
            continue
        rows.append(measure(spec, data, options.profile))
        options.out.write_text(json.dumps(rows, indent=1) + "\n")
        row = rows[-1]
        print(
            f"{spec}: linked {100 * row['linkage']['top1']:.1f} %, without attack "
            f"{100 * row['without_attack']['top1']:.1f} %, {row['controls']}, CPU {row['cpu_s']} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
