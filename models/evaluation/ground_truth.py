"""Checks that the originals belong to the images that are scored against them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unveil.models.core.images import Images
from unveil.models.core.statistics import hits_p_values
from unveil.models.core.verdict_rules.evidence import Misplaced
from unveil.models.metrics.comparisons import COMPARISONS
from unveil.models.metrics.gallery import build_gallery
from unveil.models.metrics.matching import Matches, match

_REPORTED_P = 1e-2
_MAX_MISPLACED = 100  # misplaced images kept
_BY_GALLERY = {c.name for c in COMPARISONS if c.normalization == "gallery-standardized"}


def misplaced_images(matches: Matches) -> tuple[Misplaced, ...]:
    """Reconstructions that stand out by their similarity with an original that is not theirs, most certain first.

    Comparisons standardized by the gallery do not count: reconstructions that are all far from it, such as grey ones,
    have the same nearest original, by a gap that depends on the gallery alone.
    """
    positions = matches.positions
    tested = [s for s in matches.scores if s.name not in _BY_GALLERY and (s.gap_p_value < 1).any()]
    tests = matches.queries * len(tested)
    found: dict[int, Misplaced] = {}
    for scores in tested:
        wrong = (scores.rank > 1) & (scores.chosen >= 0) & (scores.gap_p_value * tests <= _REPORTED_P)
        for i in np.flatnonzero(wrong).tolist():
            shows = int(positions[scores.chosen[i]])
            p = min(1.0, float(scores.gap_p_value[i]) * tests)
            if shows >= 0 and (i not in found or p < found[i].p_value):
                found[int(i)] = Misplaced(int(i), shows, p, scores.name)
    return tuple(sorted(found.values(), key=lambda m: (m.p_value, m.index))[:_MAX_MISPLACED])


def order_p_value(matches: Matches) -> float:
    """p-value, corrected for all of them, of the shift or reversal of the originals that explains most best matches."""
    positions = matches.positions
    count = matches.queries
    best = 1.0
    for scores in matches.scores:
        rows = np.flatnonzero((scores.rank > 1) & (scores.chosen >= 0))
        shows = positions[scores.chosen[rows]]
        rows, shows = rows[shows >= 0], shows[shows >= 0]
        if len(rows) == 0:
            continue
        shifted = np.bincount((shows - rows) % count, minlength=count)
        reversed_ = np.bincount((shows + rows) % count, minlength=count)
        hits = int(max(shifted[1:].max(initial=0), reversed_.max(initial=0)))
        best = min(best, float(hits_p_values(hits, count, scores.chance)))
    return min(1.0, best * 2 * count * len(matches.scores))


def match_public_images(images: Images, public: Images) -> tuple[Misplaced, ...]:
    """Images, such as ciphertexts that look natural, that show an image of another set; `shows` is its index there."""
    found = build_gallery(public)
    count = len(images)
    fresh = int(found.clusters.max()) + 1 + np.arange(count)
    # no image has an original in this gallery
    gallery = replace(found, columns=np.full(count, -1, np.int64), own_clusters=fresh)
    matches = match(images, np.zeros_like(images), gallery)
    return misplaced_images(replace(matches, positions=found.positions))
