"""Verdicts of complete evaluations of sound ciphers, and of ciphertexts that leak a share of the images.

    python -m benchmarks.full_evaluations --evaluations 200 --out FILE.jsonl

Evaluation `seed` encrypts the same synthetic images by AES-256-CTR or ChaCha20, in turn, under a key and fresh nonces
derived from the seed, and attacks the ciphertexts like an upload with originals, by every attack of the profile that
trains nothing. With --leak, a share of the ciphertexts are the images themselves. A run continues after the last line
of FILE.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from unveil.models.catalog import profile_attacks, required_attacks
from unveil.models.core.errors import AttackFailed, DoesNotApply
from unveil.models.core.images import Images
from unveil.models.core.run_context import RunContext
from unveil.models.core.verdict_rules.evidence import CellEvidence
from unveil.models.core.verdict_rules.rules import scheme_verdict
from unveil.models.core.verdict_rules.types import EvaluatedScheme, SchemeVerdict
from unveil.models.data.dead_leaves import dead_leaves
from unveil.models.data.image_dataset import ImageDataset
from unveil.models.evaluation.external_ciphertexts import run_external
from unveil.models.evaluation.scoring import ScoringOptions

_PROFILE = "smoke"  # its attacks train nothing; the number of images is the benchmark's own
_PAIRS = 64  # images beside the targets, for attacks on pairs

_memoized: dict[str, bytes] = {}  # the calibration, which depends on the originals alone


def _memoize(name: str, compute: Callable[[], bytes]) -> bytes:
    if name not in _memoized:
        _memoized[name] = compute()
    return _memoized[name]


def encrypt(images: Images, seed: int) -> Images:
    """AES-256-CTR for even seeds, ChaCha20 for odd ones."""
    rng = np.random.default_rng(seed)
    key, out = rng.bytes(32), bytearray()
    for image in images:
        nonce = rng.bytes(16)
        stream = Cipher(algorithms.AES256(key), modes.CTR(nonce))
        if seed % 2:
            stream = Cipher(algorithms.ChaCha20(key, nonce), None)
        out += stream.encryptor().update(image.tobytes())
    return np.frombuffer(bytes(out), np.uint8).reshape(images.shape)


def evaluate(originals: Images, others: Images, seed: int, leak: float) -> SchemeVerdict:
    protected = encrypt(np.concatenate([originals, others]), seed)
    leaking = np.random.default_rng(seed).choice(len(originals), round(leak * len(originals)), replace=False)
    test = protected[: len(originals)].copy()
    test[leaking] = originals[leaking]
    labels = np.zeros(len(protected), np.int64)
    data = ImageDataset(
        "upload", protected[len(originals) :], labels[len(originals) :], test, labels[: len(originals)], ("all",),
        others, originals,
    )  # fmt: skip
    required = required_attacks(None, _PROFILE, originals=True, public=False, draws_keys=False)
    attacks, cells, fitting = profile_attacks(_PROFILE), list[CellEvidence](), []
    options = ScoringOptions(seed=seed, samples=0, planned_cells=len(required))
    context = RunContext(seed=seed, memoize=_memoize, ablation=False)  # no verdict depends on a curve
    for each in required:
        try:
            evidence = run_external(attacks[each.name], data, options, context).result.evidence
        except DoesNotApply:
            continue  # no key of a known scheme explains the ciphertexts
        except AttackFailed as failure:
            evidence = CellEvidence(each.name, each.threat_model, each.settings, "failed", str(failure))
        assert evidence is not None
        cells.append(evidence)
        fitting.append(each)
    material = ("ciphertext-only", "known-plaintext")
    return scheme_verdict(EvaluatedScheme(tuple(cells), tuple(fitting), material, _PROFILE))[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--side", type=int, default=48, help="pixels a side of the images, at most 96")
    parser.add_argument("--leak", type=float, default=0.0, help="share of the images that are not encrypted")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    images = dead_leaves(options.images + _PAIRS, seed=1)[:, : options.side, : options.side].copy()
    originals, others = images[: options.images], images[options.images :]
    done = len(options.out.read_text().splitlines()) if options.out.exists() else 0
    for seed in range(options.first_seed + done, options.first_seed + options.evaluations):
        started = time.process_time()
        found = evaluate(originals, others, seed, options.leak)
        row = {
            "seed": seed, "images": options.images, "side": options.side, "leak": options.leak,
            "verdict": found.verdict, "because": found.because, "tried": [note.attack for note in found.tried],
            "upper_bound": found.power and found.power.upper_bound,
            "cpu_seconds": round(time.process_time() - started, 1),
        }  # fmt: skip
        with options.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
