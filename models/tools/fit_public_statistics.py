"""Compute the public image statistics of key recovery from photographs in STL-10's layout:

    python -m unveil.models.tools.fit_public_statistics --data DIR

DIR contains train_X.bin. Writes models/weights/public_statistics.npz, which holds small matrices and no image.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images
from unveil.models.recovery import tanaka
from unveil.models.recovery.tanaka_statistics import BUNDLED_STATISTICS, TanakaStatistics
from unveil.models.schemes.tanaka import nibbles
from unveil.models.tools import fitting


def fit_tanaka(images: Images) -> TanakaStatistics:
    """Fit to public images uint8 [N, H, W, 3], sides multiples of 4."""
    upper = nibbles(images)[..., tanaka.HALF_NIBBLES :].astype(np.float32) - 7.5
    distances = np.mean([tanaka.log_distances(u[None]) for u in upper], axis=0)
    full_values = images.astype(np.float32)
    middle = (images >> 4).astype(np.float32) * 16 + 7.5
    target = (images & 15).astype(np.float32) - 7.5
    predictors, likelihoods = [], []
    for known in (middle, full_values):
        weights, table = _fit_lower(middle, known, target)
        predictors.append(weights)
        likelihoods.append(table)
    return TanakaStatistics(distances, np.stack(predictors), np.stack(likelihoods))


def _fit_lower(
    middle: npt.NDArray[np.float32], known: npt.NDArray[np.float32], target: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    size = 2 * len(tanaka.NEIGHBOURS)
    gram, right = np.zeros((size, size)), np.zeros(size)
    for i in range(0, len(middle), 50):
        prediction_features, activity = tanaka.neighbour_features(middle[i : i + 50], known[i : i + 50])
        weight = (1 / (4 + activity.reshape(-1, 1)) ** 2).astype(np.float32)  # smooth regions weigh more
        flat = prediction_features.reshape(-1, size)
        gram += (flat * weight).T @ flat
        right += (flat * weight).T @ target[i : i + 50].reshape(-1)
    weights = np.linalg.solve(gram, right).astype(np.float32)
    counts = np.full((tanaka.PREDICTIONS, len(tanaka.ACTIVITIES) + 1, 16), 2.0)
    for i in range(0, len(middle), 50):
        prediction_features, activity = tanaka.neighbour_features(middle[i : i + 50], known[i : i + 50])
        prediction, activity_bin = tanaka.digitize_prediction(prediction_features @ weights, activity)
        values = (target[i : i + 50] + 7.5).astype(np.intp)
        np.add.at(counts, (prediction.ravel(), activity_bin.ravel(), values.ravel()), 1)
    # Saturated pixels (0 and 255) make 0 and 15 likely whatever the prediction. The table is symmetric under inversion,
    # so the counts of the inverted images are added.
    counts += counts[::-1, :, ::-1]
    table = np.log(counts / counts.sum(-1, keepdims=True))
    table -= table.mean(-1, keepdims=True)
    return weights, table.astype(np.float32)


def main() -> None:
    images, out = fitting.read_arguments(__doc__, BUNDLED_STATISTICS)
    statistics = fit_tanaka(images[::5])
    np.savez_compressed(
        out,
        log_distances=statistics.log_distances.astype(np.float32),
        predictors=statistics.predictors,
        likelihoods=statistics.likelihoods.astype(np.float16),
    )


if __name__ == "__main__":
    main()
