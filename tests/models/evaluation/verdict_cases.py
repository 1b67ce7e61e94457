"""Ciphertexts for tests of verdicts, and the evidence that attack `none` finds in them."""

from __future__ import annotations

import functools
import zlib

import numpy as np

from unveil.models.core.verdict_rules.coverage import RequiredAttack
from unveil.models.core.verdict_rules.evidence import CellEvidence, KeyEvidence, Rate
from unveil.models.core.verdict_rules.rules import scheme_verdict
from unveil.models.core.verdict_rules.types import EvaluatedScheme
from unveil.models.data.dead_leaves import dead_leaves
from unveil.models.data.sample import sample_test
from unveil.models.evaluation.key_evidence import collect_evidence, null_distributions
from unveil.models.metrics.gallery import Gallery, build_gallery
from unveil.models.metrics.matching import MIN_NULL_PAIRS, match
from unveil.models.metrics.naturalness import naturalness
from unveil.models.metrics.significance import NullDistribution
from unveil.models.metrics.ssim import ssim

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


_gallery_and_nulls_by_originals: dict[tuple[tuple[int, ...], int], tuple[Gallery, dict[str, NullDistribution]]] = {}


def gallery_and_nulls(originals):
    """The gallery and the null distributions of the negative control; kept, for several tests take the same images."""
    key = originals.shape, zlib.crc32(np.ascontiguousarray(originals).data)
    if key not in _gallery_and_nulls_by_originals:
        gallery = build_gallery(originals)
        repeats = -(-MIN_NULL_PAIRS // gallery.size**2)
        control = noise(np.repeat(originals, repeats, axis=0), seed=99)
        _gallery_and_nulls_by_originals[key] = gallery, null_distributions(match_many(control, originals, gallery))
    return _gallery_and_nulls_by_originals[key]


def none_cell(originals, protected, **more):
    """The cell of attack `none`, as `models.evaluation.scoring` builds it."""
    gallery, nulls = gallery_and_nulls(originals)
    key = collect_evidence(match(protected, originals, gallery), nulls, ssim=float(ssim(originals, protected).mean()))
    natural = np.flatnonzero(naturalness(protected).looks_natural)
    values = {
        "keys": (key,), "controls": PASSED, "gallery": gallery.size, "effective_gallery": gallery.effective_size,
        "natural_looking": tuple(natural.tolist()),
    }  # fmt: skip
    return CellEvidence("none", "ciphertext-only", {}, "succeeded", **(values | more))


def match_many(images, originals, gallery):
    """More noise images than originals, as small sets need for enough pairs."""
    many = np.resize(np.arange(len(originals)), len(images))
    return match(images, originals[many], gallery.repeated(many))


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
