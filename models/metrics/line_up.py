"""The line-up of an identification: the gallery images that are most similar to each query."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LINE_UP_SIZE = 5

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LineUp:
    """For N queries, the K most similar gallery images, most similar first.

    comparison: by which they were chosen. images: int64 [N, K], as `Gallery.numbers` counts them, -1 beyond the last
    candidate of an alignment. similarities: float32 [N, K]. is_own: bool [N, K], whether the image is the query's
    original or a near-duplicate of it. own_similarities: float32 [N], with the original or its nearest near-duplicate.
    ranks: int64 [N], of the original; 1 identifies the image, ties count against the attacker.
    """

    comparison: str
    images: Integers
    similarities: Floats
    is_own: npt.NDArray[np.bool_]
    own_similarities: Floats
    ranks: Integers


def most_similar(similarity: Floats) -> tuple[Integers, Floats]:
    """Columns of the highest values of each row, and these values, highest first: [n, G] -> [n, K] each.

    K is LINE_UP_SIZE, or G if that is less. Of equal values the lower column comes first.
    """
    count = min(LINE_UP_SIZE, similarity.shape[1])
    columns = np.argpartition(similarity, -count, axis=1)[:, -count:]
    values = np.take_along_axis(similarity, columns, axis=1)
    order = np.lexsort((columns, -values), axis=1)
    return np.take_along_axis(columns, order, axis=1), np.take_along_axis(values, order, axis=1)
