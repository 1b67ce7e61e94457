"""Synthetic images with the statistics of natural images: the dead-leaves model."""

from __future__ import annotations

import numpy as np

from unveil.models.core.images import Images
from unveil.models.data.image_dataset import IMAGE_SIDE


def dead_leaves(count: int, seed: int) -> Images:
    """Opaque textured discs with power-law radii that occlude each other, lit from above (Lee et al. 2001).

    uint8 [count, 96, 96, 3], cut from large canvases; the same seed gives the same images.
    """
    rng = np.random.default_rng(seed)
    side, tiles = 8 * IMAGE_SIDE, []
    for _ in range(-(-count // 64)):
        canvas = _leaves(rng, side)
        tiles.append(
            canvas.reshape(8, IMAGE_SIDE, 8, IMAGE_SIDE, 3)
            .transpose(0, 2, 1, 3, 4)
            .reshape(64, IMAGE_SIDE, IMAGE_SIDE, 3)
        )
    return np.concatenate(tiles)[:count] if tiles else np.zeros((0, IMAGE_SIDE, IMAGE_SIDE, 3), np.uint8)


def _leaves(rng: np.random.Generator, side: int) -> Images:
    from scipy.ndimage import gaussian_filter  # imported late: the catalog imports this module and needs no SciPy

    canvas = np.full((side, side, 3), 110.0, np.float32)
    leaves = 6000  # covers the canvas five times over
    smallest, largest = 5.0, 160.0
    # Radii of density r^-3 between the limits, drawn by inverting the distribution function.
    radii = (smallest**-2 - rng.random(leaves) * (smallest**-2 - largest**-2)) ** -0.5
    centres = rng.random((leaves, 2)) * side
    tones = np.clip(rng.gamma(2.2, 48, leaves), 4, 250)
    warmth, tint = rng.normal(0, 0.16, leaves), rng.normal(0, 0.06, leaves)
    texture = gaussian_filter(rng.normal(0, 1, (side, side)), 1.0).astype(np.float32) * 12
    roughness = rng.random(leaves) * 2
    for (y, x), radius, tone, warm, green, rough in zip(centres, radii, tones, warmth, tint, roughness, strict=True):
        top, bottom = max(0, int(y - radius)), min(side, int(y + radius) + 2)
        left, right = max(0, int(x - radius)), min(side, int(x + radius) + 2)
        rows, columns = np.ogrid[top:bottom, left:right]
        inside = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        shade = tone * (1 - 0.25 * (rows - y) / radius) + rough * texture[top:bottom, left:right]
        colour = np.array([1 + warm, 1 + green, 1 - warm], np.float32)
        canvas[top:bottom, left:right][inside] = (shade[..., None] * colour)[inside]
    return np.clip(gaussian_filter(canvas, (0.5, 0.5, 0)), 0, 255).astype(np.uint8)
