"""Identification by several comparisons, most of which do not depend on where in the image something is.

Each reconstruction is compared with a gallery of originals. Sixteen comparisons are matrix products over all pairs of
features (`models.metrics.comparisons`); a seventeenth aligns the best candidates by FFT over all cyclic shifts and the
eight rotations and mirrors. `models.metrics.significance` turns the similarities into p-values.

Chance does not depend on how a comparison selects: if reconstructions say nothing about which original is theirs, any
selection among G gallery images is right once in G.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images, check_images
from unveil.models.metrics.alignment import best_alignment, grid_spectra
from unveil.models.metrics.comparisons import CHUNK, COMPARISONS, SHIFT, Comparison, Floats, extract
from unveil.models.metrics.gallery import Gallery
from unveil.models.metrics.line_up import LINE_UP_SIZE, LineUp, most_similar
from unveil.models.metrics.match_features import Features
from unveil.models.metrics.significance import NullDistribution, fisher_z, fit_null

Integers = npt.NDArray[np.int64]

NULL_PAIRS = 250_000  # similarities with unrelated originals that are kept, a comparison
MIN_NULL_PAIRS = 10_000
_CANDIDATES = 4  # that each nominating comparison chooses for alignment
_TIE = np.float32(1e-5)  # matrix products round two copies of an image differently, by less than this
_SPACINGS = 20  # highest similarities of a row that say how far its maximum may stand out


@dataclass(frozen=True)
class ComparisonScores:
    """Similarities of one comparison, by query.

    own: with the query's original or a near-duplicate of it. best_other: highest with any other gallery image. rank: of
    the own original, near-duplicates of it left out; ties count against the attacker; 1 is a hit. chosen: gallery
    position of the most similar image, -1 for an own original outside the gallery, -2 where nothing is similar.
    gap_p_value: p-value of the gap between the most similar image and the others (`models.evaluation.ground_truth`).
    chance: of a hit, under a random pairing. null: the distribution of similarities with other originals. nearest:
    int64 [N, K], the gallery positions that are most similar to each query, most similar first; nearest_similarity:
    float32 [N, K].
    """

    name: str
    own: Floats
    best_other: Floats
    rank: Integers
    chosen: Integers
    gap_p_value: npt.NDArray[np.float64]
    chance: float
    null: NullDistribution
    nearest: Integers
    nearest_similarity: Floats

    @property
    def hits(self) -> int:
        return int((self.rank == 1).sum())


@dataclass(frozen=True)
class Matches:
    """All comparisons of one set of reconstructions with one gallery.

    positions: int64 [G], the original that each gallery image is; -1 for a distractor.
    """

    scores: tuple[ComparisonScores, ...]
    positions: Integers
    gallery: int
    effective_gallery: float
    gallery_available: int

    def __getitem__(self, name: str) -> ComparisonScores:
        return next(score for score in self.scores if score.name == name)

    @property
    def queries(self) -> int:
        return len(self.scores[0].own)

    @property
    def notes(self) -> tuple[str, ...]:
        if self.gallery_available <= self.gallery:
            return ()
        return (f"gallery: a random sample of {self.gallery} of {self.gallery_available} images",)


def match(reconstructed: Images, originals: Images, gallery: Gallery, seed: int = 0) -> Matches:
    """Compare every reconstruction with the gallery. `gallery` comes from `build_gallery(originals, ...)`.

    reconstructed, originals: uint8 [N, H, W, 3] of one shape, reconstruction i of original i.
    """
    check_images(reconstructed, "reconstructed")
    if reconstructed.shape != originals.shape or len(originals) != len(gallery.columns):
        raise ValueError(
            f"reconstructed must have the shape of the originals; got {list(reconstructed.shape)} and "
            f"{list(originals.shape)} with a gallery of {len(gallery.columns)} originals"
        )
    rng = np.random.default_rng(seed)
    targets = gallery.targets
    collectors = {c.name: _Collector(c.name, gallery, rng) for c in COMPARISONS}

    def compare(comparison: Comparison, rows: slice, query: Features, own: Features | None) -> None:
        target = targets[comparison.name]
        units = target.query_units(query)
        similarity = target.similarities(units)
        columns = gallery.columns[rows]
        of_own = similarity[np.arange(len(columns)), columns]  # of -1: overwritten below
        if own is not None:
            of_own = np.where(columns >= 0, of_own, target.own_similarity(units, own))
        collectors[comparison.name].add(rows, similarity, of_own, nominate=comparison.nominates)

    outside = bool((gallery.columns < 0).any())
    later: list[tuple[slice, dict[str, Features], dict[str, Features] | None]] = []
    for rows in _chunks(len(originals)):
        query = extract(reconstructed[rows])
        own = extract(originals[rows]) if outside else None
        for comparison in COMPARISONS:
            if comparison.normalization == "correlation":
                feature = comparison.feature
                compare(comparison, rows, query[feature], own[feature] if own else None)
        later.append((rows, _position_free(query), _position_free(own) if own else None))
    for comparison in COMPARISONS:
        if comparison.normalization == "correlation":
            continue
        feature = comparison.feature
        if comparison.normalization == "standardized":
            targets[comparison.name].standardize_queries(np.concatenate([query[feature] for _, query, _ in later]))
        for rows, query, own in later:
            compare(comparison, rows, query[feature], own[feature] if own else None)
    nominees = np.concatenate([collectors[c.name].nominees for c in COMPARISONS if c.nominates], axis=1)
    ranks = np.stack([collectors[c.name].rank for c in COMPARISONS if c.nominates])
    shift = _align(reconstructed, originals, gallery, nominees, np.asarray((ranks <= _CANDIDATES).any(axis=0)), rng)
    scores = (*(collectors[c.name].scores() for c in COMPARISONS), shift)
    return Matches(scores, gallery.positions, gallery.size, gallery.effective_size, gallery.available)


def line_up(scores: ComparisonScores, gallery: Gallery) -> LineUp:
    """The line-up of one comparison. scores: of queries of this gallery."""
    found = scores.nearest >= 0
    return LineUp(
        scores.name,
        np.where(found, gallery.numbers[scores.nearest], -1),
        scores.nearest_similarity,
        found & (gallery.clusters[scores.nearest] == gallery.own_clusters[:, None]),
        scores.own,
        scores.rank,
    )


def similarities(reconstructed: Images, gallery: Gallery) -> dict[str, Floats]:
    """Similarity of every reconstruction with every gallery image, by comparison, float32 [N, G] each.

    For studies of the comparisons: `match` keeps no such matrices. Alignment by shift is computed for all pairs.
    """
    query = [extract(reconstructed[rows]) for rows in _chunks(len(reconstructed))]
    found = {}
    for comparison in COMPARISONS:
        target = gallery.targets[comparison.name]
        values = np.concatenate([part[comparison.feature][:, :1] for part in query])
        if comparison.normalization == "standardized":
            target.standardize_queries(values)
        found[comparison.name] = target.similarities(target.query_units(values))
    queries = grid_spectra(reconstructed, variants=False)[:, 0]
    found[SHIFT] = np.stack([best_alignment(gallery.spectra, query) for query in queries])
    return found


def _position_free(found: Mapping[str, Features]) -> dict[str, Features]:
    return {name: feature for name, feature in found.items() if not name.startswith(("average", "dihedral"))}


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))


class _Collector:
    """Gathers the scores of one comparison from chunks of similarities."""

    def __init__(self, name: str, gallery: Gallery, rng: np.random.Generator) -> None:
        count = len(gallery.columns)
        self.name, self.gallery, self.rng = name, gallery, rng
        self.own, self.best_other = np.empty(count, np.float32), np.empty(count, np.float32)
        self.rank, self.chosen = np.empty(count, np.int64), np.empty(count, np.int64)
        self.gap_p_value = np.ones(count)
        self.nearest = np.full((count, min(LINE_UP_SIZE, gallery.size)), -1, np.int64)
        self.nearest_similarity = np.zeros(self.nearest.shape, np.float32)
        self.nominees = np.zeros((count, min(_CANDIDATES, gallery.size)), np.int64)
        self.random_hits = 0.0
        self.unrelated: list[Floats] = []
        self.unrelated_queries: list[Integers] = []
        self.kept = min(1.0, NULL_PAIRS / (count * gallery.size))

    def add(self, rows: slice, similarity: Floats, own: Floats, *, nominate: bool) -> None:
        clusters, own_clusters = self.gallery.clusters, self.gallery.own_clusters[rows]
        same = clusters[None, :] == own_clusters[:, None]
        own = np.maximum(own, np.where(same, similarity, -np.inf).max(axis=1))
        other = np.where(same, -np.inf, similarity)
        best_column = similarity.argmax(axis=1)
        best = similarity[np.arange(len(own)), best_column]
        self.own[rows], self.best_other[rows] = own, other.max(axis=1)
        self.rank[rows] = 1 + (other >= (own - _TIE)[:, None]).sum(axis=1)
        outside = (self.gallery.columns[rows] < 0) & (own > best)
        chosen = np.where(outside, -1, best_column)
        self.chosen[rows] = np.where(np.maximum(best, own) > _TIE, chosen, -2)
        self.gap_p_value[rows] = gap_p_values(similarity)
        self.nearest[rows], self.nearest_similarity[rows] = most_similar(similarity)
        sizes = self.gallery.cluster_sizes
        chosen_clusters = np.where(outside, own_clusters, clusters[best_column])
        self.random_hits += float(np.maximum(sizes[chosen_clusters], 1).sum() / self.gallery.size)
        if nominate:
            count = self.nominees.shape[1]
            self.nominees[rows] = np.argpartition(similarity, -count, axis=1)[:, -count:]
        kept = ~same
        if self.kept < 1:
            kept &= self.rng.random(self.gallery.size)[None, :] < self.kept
        self.unrelated.append(similarity[kept])
        self.unrelated_queries.append(rows.start + np.nonzero(kept)[0])

    def add_aligned(
        self, i: int, candidates: Integers, similarity: Floats, own: np.float32, own_nominated: bool
    ) -> None:
        """One query with its candidates; its own original competes only if it was nominated like them."""
        clusters, own_cluster = self.gallery.clusters, self.gallery.own_clusters[i]
        other = similarity[clusters[candidates] != own_cluster]
        (nearest,), (values,) = most_similar(similarity[None])
        self.nearest[i, : len(nearest)], self.nearest_similarity[i, : len(nearest)] = candidates[nearest], values
        self.own[i], self.best_other[i] = own, other.max(initial=0)
        self.rank[i] = 1 + (other >= own - _TIE).sum() if own_nominated else self.gallery.size
        if own_nominated and own > self.best_other[i]:
            self.chosen[i], cluster = self.gallery.columns[i], own_cluster
        elif len(other) and self.best_other[i] > _TIE:
            self.chosen[i] = candidates[np.flatnonzero(clusters[candidates] != own_cluster)[other.argmax()]]
            cluster = clusters[self.chosen[i]]
        else:
            self.chosen[i], cluster = -2, own_cluster
        self.random_hits += max(self.gallery.cluster_sizes[cluster], 1) / self.gallery.size

    def scores(self) -> ComparisonScores:
        return ComparisonScores(
            self.name, self.own, self.best_other, self.rank, self.chosen, self.gap_p_value,
            min(1.0, self.random_hits / len(self.own)),
            fit_null(np.concatenate(self.unrelated), np.concatenate(self.unrelated_queries)), self.nearest,
            self.nearest_similarity,
        )  # fmt: skip


def gap_p_values(similarity: Floats) -> npt.NDArray[np.float64]:
    """p-value, by row, of the gap between the highest similarity and the next: [n, G] -> [n].

    Under an exponential tail the gap divided by the mean excess of the next highest is F-distributed with
    (2, 2m - 2) degrees of freedom, m the number of similarities above the last. Fisher's z makes tails of correlations
    no heavier than that.
    """
    size = similarity.shape[1]
    count = min(_SPACINGS + 2, size // 2)
    if count < 4:
        return np.ones(len(similarity))
    top = fisher_z(np.sort(np.partition(similarity, size - count, axis=1)[:, size - count :], axis=1)[:, ::-1])
    gap = top[:, 0] - top[:, 1]
    excesses = (top[:, 1:-1] - top[:, -1:]).astype(np.float64)
    number = excesses.shape[1]
    # of m exponential excesses over the last, the sum of all but the highest's own gap
    scale = (excesses.sum(axis=1) + (top[:, 1] - top[:, -1])) / number
    ratio = np.divide(gap, scale, out=np.zeros(len(gap)), where=scale > 1e-9)
    ratio[(scale <= 1e-9) & (gap > 1e-6)] = np.inf
    return (1 + ratio / number) ** -float(number)


def _align(
    reconstructed: Images,
    originals: Images,
    gallery: Gallery,
    nominees: Integers,
    own_nominated: npt.NDArray[np.bool_],
    rng: np.random.Generator,
) -> ComparisonScores:
    """Highest |correlation| of 24x24 averages over all cyclic shifts and the eight rotations and mirrors, by FFT.

    Computed for the nominees of each query, for its own original and for random gallery images, which make up the null
    distribution. A hit needs the own original among the nominees, by the same rule as every other image.
    """
    collector = _Collector(SHIFT, gallery, rng)
    size, count = gallery.size, len(originals)
    random = min(size, max(20, -(-MIN_NULL_PAIRS // count)))
    for rows in _chunks(count):
        queries = grid_spectra(reconstructed[rows], variants=False)[:, 0]
        own_spectra = grid_spectra(originals[rows], variants=True) if (gallery.columns[rows] < 0).any() else None
        for i in range(rows.start, rows.stop):
            column, own_cluster = gallery.columns[i], gallery.own_clusters[i]
            candidates = np.unique(nominees[i])
            drawn = np.arange(size) if random == size else rng.choice(size, random, replace=False)
            drawn = drawn[gallery.clusters[drawn] != own_cluster]
            compared = gallery.spectra[
                np.concatenate([candidates, drawn, [column] if column >= 0 else []]).astype(np.intp)
            ]
            if column < 0:
                assert own_spectra is not None
                compared = np.concatenate([compared, own_spectra[i - rows.start, None]])
            similarity = best_alignment(compared, queries[i - rows.start])
            collector.add_aligned(i, candidates, similarity[: len(candidates)], similarity[-1], bool(own_nominated[i]))
            collector.unrelated.append(similarity[len(candidates) : -1])
            collector.unrelated_queries.append(np.full(len(drawn), i))
    return collector.scores()
