"""The share of values or blocks that a scheme leaves in place."""

from __future__ import annotations

import numpy as np

from unveil.models.core.blocks import to_blocks
from unveil.models.core.images import Images, check_pair

DEFAULT_BLOCK = 8  # pixels a side


def fixed_positions(plain: Images, protected: Images, block: int = DEFAULT_BLOCK) -> float:
    """The share of values in place, or of blocks in place where that is larger: 0..1, the mean over images.

    plain, protected: uint8 [N, H, W, 3]. A value is in place if plain and protected image agree in it; the share is
    corrected for chance agreement (Cohen's kappa). A block of `block` pixels a side is in place if its values are,
    in any order; blocks of one value do not count.
    """
    check_pair(plain, protected)
    if not len(plain):
        raise ValueError("at least one image is needed; got none")
    values = sum(_agreement(a, b) for a, b in zip(plain, protected, strict=True)) / len(plain)
    return max(0.0, values, _blocks_in_place(plain, protected, block))


def _agreement(plain: Images, protected: Images) -> float:
    observed = float((plain == protected).mean())
    shares = [np.bincount(image.ravel(), minlength=256) / image.size for image in (plain, protected)]
    by_chance = float(shares[0] @ shares[1])
    return 1.0 if by_chance == 1 else (observed - by_chance) / (1 - by_chance)


def _blocks_in_place(plain: Images, protected: Images, block: int) -> float:
    count, height, width, _ = plain.shape
    rows, columns = height // block, width // block
    if not rows or not columns:
        return 0.0

    def sorted_blocks(images: Images) -> Images:
        whole = images[:, : rows * block, : columns * block]
        return np.sort(to_blocks(whole, block).reshape(count, rows * columns, -1), axis=2)

    own = sorted_blocks(plain)
    varied = own[..., 0] != own[..., -1]
    in_place = (own == sorted_blocks(protected)).all(axis=2) & varied
    return float(in_place.sum() / max(1, varied.sum()))
