"""The comparisons of identification: their features and normalizations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images
from unveil.models.metrics import match_features as features
from unveil.models.metrics.match_features import Features

Floats = npt.NDArray[np.float32]
Normalization = Literal["correlation", "standardized", "gallery-standardized"]

SCALES = (1, 2, 4, 8)
SHIFT = "shift-24"  # the alignment by FFT (`models.metrics.alignment`)
CHUNK = 64  # images per step: bounds memory
FLAT_NORM = 1e-3  # features shorter than this are those of a flat image
_FULL_SIDE = 96  # larger images are averaged down before they are compared at their places
_CONSTANT = 1e-4


@dataclass(frozen=True)
class Comparison:
    """normalization: `correlation` of values of one image; or features standardized by their mean and deviation over
    the set, queries by their own (`standardized`: a set that is blurred or faded as a whole is still recognized) or by
    the gallery's (`gallery-standardized`: a few clear images among noise are recognized).
    """

    name: str
    feature: str
    normalization: Normalization
    nominates: bool = False  # candidates for alignment by shift


COMPARISONS: tuple[Comparison, ...] = (
    *(Comparison(f"correlation-{scale}", f"average-{scale}", "correlation") for scale in SCALES),
    Comparison("dihedral-24", "dihedral-24", "correlation", nominates=True),
    Comparison("dihedral-12", "dihedral-12", "correlation", nominates=True),
    *(Comparison(f"blocks-{size}", f"blocks-{size}", "standardized", size == 8) for size in features.BLOCK_SIZES),
    Comparison("blocks-4-clear", "blocks-4", "gallery-standardized", nominates=True),
    Comparison("color-histogram", "color", "standardized", nominates=True),
    Comparison("color-histogram-clear", "color", "gallery-standardized"),
    Comparison("gradient-histogram", "gradient", "standardized"),
    Comparison("gradient-histogram-clear", "gradient", "gallery-standardized"),
    Comparison("power-spectrum", "spectrum", "standardized", nominates=True),
    Comparison("power-spectrum-clear", "spectrum", "gallery-standardized", nominates=True),
)
COMPARISON_NAMES: tuple[str, ...] = (*(c.name for c in COMPARISONS), SHIFT)


def extract(images: Images) -> dict[str, Features]:
    """Every feature of some images by name, float32 [N, V, D] each."""
    grey = features.luma(images)
    shrink = -(-max(images.shape[1:3]) // _FULL_SIDE)
    full = features.grid_average(grey, grey.shape[1] // shrink, grey.shape[2] // shrink).astype(np.float32)
    found = {f"average-{scale}": features.average_features(full, scale) for scale in SCALES}
    for side in (features.FINE_GRID, features.COARSE_GRID):
        found[f"dihedral-{side}"] = features.dihedral_features(grey, side)
    found |= {f"blocks-{size}": feature for size, feature in features.block_features(images, grey).items()}
    found["color"] = features.color_features(images)
    found["gradient"] = features.gradient_features(grey)
    found["spectrum"] = features.spectrum_features(grey)
    return found


class Targets:
    """The gallery side of one comparison: normalized features, ready for a matrix product with those of queries."""

    def __init__(self, comparison: Comparison, feature: Features) -> None:
        self.correlation = comparison.normalization == "correlation"
        if self.correlation:
            self.query_moments = self.moments = None
        else:
            # a variant, such as the negative, has moments of its own; queries resemble one variant as a whole
            per_variant = comparison.normalization == "standardized"
            self.moments = _moments(feature if per_variant else feature[:, :1])
            self.query_moments = _moments(feature[:, :1])
        units = self._normalized(feature, self.moments)
        self.transposed = [np.ascontiguousarray(units[:, v].T) for v in range(units.shape[1])]

    def standardize_queries(self, feature: Features) -> None:
        self.query_moments = _moments(feature[:, :1])

    def query_units(self, feature: Features) -> Floats:
        return self._normalized(feature[:, :1], self.query_moments)[:, 0]

    def similarities(self, units: Floats) -> Floats:
        """[n, D] -> [n, G], the best of all variants."""
        best: Floats | None = None
        for transposed in self.transposed:
            product = units @ transposed
            if self.correlation:
                np.abs(product, out=product)
            best = product if best is None else np.maximum(best, product, out=best)
        assert best is not None
        return best

    def own_similarity(self, units: Floats, own: Features) -> Floats:
        products = np.einsum("nd,nvd->nv", units, self._normalized(own, self.moments))
        return (np.abs(products) if self.correlation else products).max(axis=1)

    def _normalized(self, feature: Features, moments: tuple[Floats, Floats] | None) -> Floats:
        if moments is None:
            centered = feature - feature.mean(axis=2, keepdims=True)
        else:
            centered = (feature - moments[0]) / moments[1]
        norm = np.sqrt(np.einsum("nvd,nvd->nv", centered, centered))[..., None]
        return centered / np.where(norm > FLAT_NORM, norm, np.inf)


def build_targets(images: Images) -> dict[str, Targets]:
    """The gallery side of every comparison, by name."""
    parts = [extract(images[i : i + CHUNK]) for i in range(0, len(images), CHUNK)]
    whole = {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}
    return {comparison.name: Targets(comparison, whole[comparison.feature]) for comparison in COMPARISONS}


def _moments(feature: Features) -> tuple[Floats, Floats]:
    """Mean and deviation of each value of each variant over a set, [1, V, D] each; constant values are ignored."""
    deviation = feature.std(axis=0, keepdims=True)
    return feature.mean(axis=0, keepdims=True), np.where(deviation > _CONSTANT, deviation, np.inf).astype(np.float32)
