"""Recognition: tries every kind of structure on pairs, and keeps the one that reads held-out pairs best.

The kinds come from the most specific to the most general. The first one that reads the held-out pairs exactly ends the
search, so that a report names the simplest structure that explains the cipher.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images
from unveil.models.core.statistics import hits_p_values
from unveil.models.structural.kinds import Find, structures
from unveil.models.structural.reader import Reader, StructureInverse

OnProgress = Callable[[float], None]

_EXPECTED_KINDS = 160  # about so many are tried
_HELD_OUT_SHARE, _MAX_HELD_OUT = 0.2, 16
_EXACT = 0.9995  # of held-out values: the search ends
_MIN_EXACT, _MIN_RATIO = 0.05, 3.0  # share of exact values, and how often that of pairs that do not belong together
_CLEARLY_LESS = 0.9  # by which a more general structure must be better
_MIN_GAIN = 0.15  # of the mean error, over predicting the mean image of the pairs
_SAMPLE_STEP, _ROUNDING = 2, 2  # pixels; grey levels
_SPARSE_STEP = 6  # pixels between values that count as independent
_SMALLEST_P = 1e-99  # reported
_MAX_P = 1e-5  # of one structure: some 160 are tried


@dataclass(frozen=True)
class Recognised:
    """The structure that reads held-out pairs best.

    exact: share of their values that it reads exactly; mismatched: the same for pairs that do not belong together.
    error: mean absolute error in grey levels; baseline: that of the mean image. held_out, fitted: numbers of pairs.
    p_value: of so much agreement with the held-out originals by chance. find: fits the structure to other pairs.
    """

    reader: Reader
    exact: float
    mismatched: float
    error: float
    baseline: float
    held_out: int
    fitted: int
    p_value: float
    find: Find

    @property
    def inverse(self) -> StructureInverse:
        return StructureInverse(self.reader)

    def summary(self, tried: int) -> str:
        """What was recognised, how sure that is, and from how many pairs. tried: structures that were compared."""
        corrected = min(1.0, self.p_value * tried)
        certainty = f"p < {_SMALLEST_P:.0e}" if corrected < _SMALLEST_P else f"p = {corrected:.1g}"
        return (
            f"{self.reader.description}. Fitted to {self.fitted} pairs, it reads {100 * self.exact:.1f} % of the "
            f"values of {self.held_out} other pairs exactly ({100 * self.mismatched:.1f} % of pairs that do not belong "
            f"together; {certainty} over {tried} structures)"
        )


@dataclass(frozen=True)
class Search:
    """found: None if no structure explains the pairs. tried: how many were tried."""

    found: Recognised | None
    tried: int


def recognise(plain: Images, protected: Images, on_progress: OnProgress = lambda _: None) -> Search:
    """The structure of a cipher from at least two pairs uint8 [N, H, W, 3].

    The last fifth of the pairs is held out to choose; the chosen structure is then fitted to all pairs. on_progress
    receives the share of the work that is done. Raises ValueError for fewer than two pairs.
    """
    count = len(plain)
    if count < 2:
        raise ValueError(f"at least 2 pairs are needed to tell a structure from chance; got {count}")
    held_out = min(_MAX_HELD_OUT, max(1, round(_HELD_OUT_SHARE * count)))
    fit, check = slice(0, count - held_out), slice(count - held_out, count)
    best: Recognised | None = None
    tried = 0
    for find in structures(plain.shape, plain[fit], protected[fit]):
        on_progress(tried / (tried + _EXPECTED_KINDS))
        tried += 1
        reader = find(plain[fit], protected[fit])
        if reader is None:
            continue
        found = _evaluate_reader(reader, find, plain, protected, fit, check)
        if found is not None and (best is None or found.error < _CLEARLY_LESS * best.error):
            best = found
        if best is not None and best.exact >= _EXACT:
            break
    if best is None:
        return Search(None, tried)
    reader = best.find(plain, protected)
    return Search(best if reader is None else replace(best, reader=reader), tried)


def _evaluate_reader(
    reader: Reader, find: Find, plain: Images, protected: Images, fit: slice, check: slice
) -> Recognised | None:
    """The figures of a reader on held-out pairs; None if it reads them no better than chance."""
    truth = plain[check]
    reconstructed = StructureInverse(reader).decrypt(protected[check])
    exact = float((reconstructed == truth).mean())
    mismatched = float((reconstructed == plain[: len(truth)]).mean())
    error = _mean_error(reconstructed, truth)
    mean = np.broadcast_to(np.rint(plain[fit].mean(axis=0)).astype(np.uint8), truth.shape)
    baseline = _mean_error(mean, truth)
    if not baseline:
        return None
    if reader.conclusive:
        p_value = 0.0  # whole blocks that agree by chance are beyond any number that could be reported
    elif exact >= max(_MIN_EXACT, _MIN_RATIO * mismatched, _MIN_RATIO * float((mean == truth).mean())):
        p_value = _agreement_p_value(reconstructed, plain, check)
    elif error <= (1 - _MIN_GAIN) * baseline:
        p_value = _ranking_p_value(reconstructed, plain, check)
    else:
        return None
    if p_value > _MAX_P:
        return None
    return Recognised(reader, exact, mismatched, error, baseline, len(truth), fit.stop, p_value, find)


def _agreement_p_value(reconstructed: Images, plain: Images, check: slice) -> float:
    """Of so many exact values, at the rate at which values agree with another original or a turned one."""
    from scipy.stats import binom

    sampled = (slice(None), slice(None, None, _SPARSE_STEP), slice(None, None, _SPARSE_STEP))
    found, truth = reconstructed[sampled], plain[check][sampled]
    others = [np.roll(plain, shift, axis=0)[check][sampled] for shift in (1, 2) if shift < len(plain)]
    wrong = [*others, truth[:, ::-1], truth[:, :, ::-1], truth[:, ::-1, ::-1]]
    chance = max(float((found == other).mean()) for other in wrong)
    return float(binom.sf(int((found == truth).sum()) - 1, found.size, max(chance, 1 / 256)))


def _ranking_p_value(reconstructed: Images, plain: Images, check: slice) -> float:
    """Of so many reconstructions that agree with their own original more than with any other of the pairs."""
    agreement = np.stack([_agreement(image, plain) for image in reconstructed])
    hits = int((agreement.argmax(axis=1) == np.arange(check.start, check.stop)).sum())
    return float(hits_p_values(hits, len(reconstructed), 1 / len(plain)))


def _agreement(image: Images, candidates: Images) -> npt.NDArray[np.float64]:
    """The share of a sample of values that the image has in common with each candidate, up to rounding."""
    sample, samples = image[::_SAMPLE_STEP, 1::_SAMPLE_STEP], candidates[:, ::_SAMPLE_STEP, 1::_SAMPLE_STEP]
    return np.asarray((np.abs(samples.astype(np.int16) - sample) <= _ROUNDING).mean(axis=(1, 2, 3)))


def _mean_error(images: Images, truth: Images) -> float:
    return float(np.abs(images.astype(np.int16) - truth).mean())
