"""Parts of the solvers that compute a key from pairs of plain and protected images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images, check_images

K = TypeVar("K")


@dataclass(frozen=True)
class SolvedKey(Generic[K]):
    """A key consistent with every pair, and the share of it that the pairs determine.

    The share is of pixels, nibbles, blocks or table entries. decrypt: better than decryption with `key`, because it
    relies on no entry that the pairs leave open; None: the scheme decrypts with `key`.
    """

    key: K
    determined: float
    decrypt: Callable[[Images], Images] | None = None


class InconsistentPairs(ValueError):
    """No key of this scheme is consistent with the pairs."""


def check_pairs(plain: Images, protected: Images) -> None:
    """Raises ValueError unless both are uint8 [N, H, W, 3] of the same shape with at least one image."""
    check_images(plain, "plain")
    check_images(protected, "protected")
    if plain.shape != protected.shape:
        raise ValueError(f"each plain image needs its ciphertext; got {list(plain.shape)} and {list(protected.shape)}")
    if not len(plain):
        raise ValueError("at least one pair is needed; got none")


def match_labels(inputs: list[bytes], outputs: list[bytes]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Match each output to an unused input with its label -> input indices, and whether the label is unique."""
    unmatched: dict[bytes, list[int]] = {}
    for i, label in reversed(list(enumerate(inputs))):
        unmatched.setdefault(label, []).append(i)
    is_unique = np.array([len(unmatched.get(label, ())) == 1 for label in outputs])
    matches = [unmatched[label].pop() if unmatched.get(label) else -1 for label in outputs]
    if -1 in matches:
        raise InconsistentPairs(
            f"no key of this scheme is consistent with the pairs in {matches.count(-1)} of {len(matches)} blocks"
        )
    return np.array(matches, np.int64), is_unique
