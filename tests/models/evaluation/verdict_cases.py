"""Ciphertexts for tests of verdicts, and the evidence that attack `none` finds in them."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from unveil.models.catalog import make_attack
from unveil.models.core.run_context import RunContext
from unveil.models.core.verdict_rules.coverage import RequiredAttack
from unveil.models.core.verdict_rules.evidence import CellEvidence, KeyEvidence, Rate
from unveil.models.core.verdict_rules.rules import scheme_verdict
from unveil.models.core.verdict_rules.types import EvaluatedScheme
from unveil.models.data.dead_leaves import dead_leaves
from unveil.models.data.image_dataset import ImageDataset
from unveil.models.data.sample import sample_test
from unveil.models.evaluation.external_ciphertexts import run_external
from unveil.models.evaluation.scoring import ScoringOptions

PASSED = {"positive": "passed", "negative": "passed"}
NONE = RequiredAttack("none", "ciphertext-only")


@functools.cache
def photographs():
    """61 tiles of photographs, 96x96."""
    return sample_test()[0]


@functools.cache
def leaves(count, seed=7):
    """Synthetic images with natural statistics, 96x96."""
    return dead_leaves(count, seed)


def noise(like, seed=0):
    return np.random.default_rng(seed).integers(0, 256, like.shape, dtype=np.uint8)


def noise_with_clear_images(originals, indices, seed=0):
    protected = noise(originals, seed)
    protected[indices] = originals[indices]
    return protected


_memoized: dict[str, bytes] = {}  # several tests calibrate the same images


def memoize(name, compute):
    if name not in _memoized:
        _memoized[name] = compute()
    return _memoized[name]


def upload(originals, protected):
    """A dataset of uploaded ciphertexts with their originals, without training images."""
    labels = np.zeros(len(protected), np.int64)
    empty = protected[:0]
    return ImageDataset("upload", empty, labels[:0], protected, labels, ("all",), empty, originals)


def external_result(originals, protected, attack="none", public=None, **settings):
    """The result of a cell on uploaded ciphertexts, through the evaluation itself."""
    context, options = RunContext(memoize=memoize), ScoringOptions(samples=1)
    made = make_attack(attack, settings)
    return run_external(made, upload(originals, protected), options, context, public=public).result


def none_cell(originals, protected, **more):
    """The evidence of attack `none` on uploaded ciphertexts."""
    return replace(external_result(originals, protected).evidence, **more)


def verdict(*cells, required=(NONE,), **more):
    return scheme_verdict(EvaluatedScheme(tuple(cells), tuple(required), **more))[0]


def cell_verdict_in_scheme(cell):
    """The verdict of the only cell of a scheme."""
    return scheme_verdict(EvaluatedScheme((cell,), (NONE,)))[1][0]


def rates(hits, trials=500, comparison="dihedral-24"):
    return (Rate(comparison, hits, trials, 1 / trials),)


def cell(attack="none", *keys, images=500, model="ciphertext-only", **more):
    """A finished cell with passed controls; without keys, one key that shows nothing."""
    keys = keys or (KeyEvidence(rates=rates(1, images), images_tested=images, ssim=0.02),)
    values = {"settings": {}, "status": "succeeded", "controls": PASSED, "gallery": images, "effective_gallery": images}
    return CellEvidence(attack, model, keys=keys, **(values | more))
