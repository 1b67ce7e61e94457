"""What one attack sees of one picture, and of a small set of photographs under the same key: for the playground.

The set is cut from scikit-image's photographs in the picture's own size, for a map of a size fits that size only.
"""

from __future__ import annotations

import io
import time
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from unveil.models.attacks.base import Attack
from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images
from unveil.models.core.run_context import Context
from unveil.models.data import datasets
from unveil.models.evaluation.attacker_view import allowed, lay_out
from unveil.models.evaluation.scoring import LEAK_CONFIDENCE, identified
from unveil.models.metrics.image_metrics import SCALES, identification, ssim
from unveil.models.schemes.base import Scheme

PHOTOGRAPHS = {
    "astronaut": "astronaut.png",
    "coffee": "coffee.png",
    "cat": "chelsea.png",
    "rocket": "rocket.jpg",
}  # fmt: skip
SIDE = 256  # of pictures to choose from, at most
_SET = ("astronaut.png", "coffee.png", "chelsea.png", "motorcycle_left.png")  # four corners of each
_TILE = 64  # side of a picture in the mosaic, at most


def photograph(name: str) -> bytes:
    """One of PHOTOGRAPHS as a PNG, scaled down."""
    image = Image.fromarray(datasets.photograph(PHOTOGRAPHS[name]))
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return _png(image)


def look(
    scheme: Scheme[Any, Any], attack: Attack[Any], picture: Images, key: Any, secret: bytes | None
) -> tuple[dict[str, Any], list[bytes]]:
    """Figures, and two PNGs: the picture [H, W, 3] as the attack sees it, and the small set.

    key: for the picture's size. secret: of a scheme that has a key for each image; the set's are derived from it.
    """
    started = time.perf_counter()
    height, width = picture.shape[:2]
    plain = np.concatenate([picture[None], _small_set(height, width)])

    def protect(images: Images, number: int) -> Images:
        if secret is None:
            return scheme.encrypt(images, key)
        protected = scheme.protect(images, secret, number)
        if number == 0:
            protected[:1] = scheme.encrypt(images[:1], key)
        return protected

    lab = lay_out(attack, plain, plain[:0])
    material = allowed(scheme, attack, lab, protect)
    try:
        outcome = attack.run(material, Context())
    except AttackFailed as failed:
        return {"failed_attack": str(failed)}, []
    seen = outcome.reconstructed
    assert seen is not None, "only attacks that make pictures are asked for"
    ranks = identification(plain, seen).ranks
    picked = identified([ranks], LEAK_CONFIDENCE)
    scores = ssim(plain, seen)
    figures = {
        "ssim": float(scores[0]),
        "set_ssim": float(scores.mean()),
        "picked": bool(ranks[SCALES.index(picked["scale"]), 0] == 1),
        "picked_of_set": round(picked["top1"] * len(plain)),
        "set": len(plain),
        "above_chance": picked["above_chance"],
        "exact_key": None if outcome.key is None else min(scheme.agreement(outcome.key, key).values()) == 1.0,
        "seconds": round(time.perf_counter() - started, 3),
    }
    return figures, [_png(Image.fromarray(seen[0])), _mosaic(seen[1:])]


def small_set(height: int, width: int) -> bytes:
    """The plain set, as a mosaic."""
    return _mosaic(_small_set(height, width))


@lru_cache(maxsize=4)
def _small_set(height: int, width: int) -> Images:
    """[16, height, width, 3]: the corners of four photographs, cut to the shape and scaled."""
    return np.stack([_fit(corner, height, width) for file in _SET for corner in _corners(datasets.photograph(file))])


def _corners(whole: Images) -> list[Images]:
    rows, columns = whole.shape[0] // 2, whole.shape[1] // 2
    return [whole[y : y + rows, x : x + columns] for y in (0, rows) for x in (0, columns)]


def _fit(image: Images, height: int, width: int) -> Images:
    scale = min(image.shape[0] / height, image.shape[1] / width)
    rows, columns = max(1, int(height * scale)), max(1, int(width * scale))
    top, left = (image.shape[0] - rows) // 2, (image.shape[1] - columns) // 2
    cut = Image.fromarray(image[top : top + rows, left : left + columns])
    return np.asarray(cut.resize((width, height), Image.Resampling.LANCZOS))


def _mosaic(images: Images) -> bytes:
    """Sixteen pictures as one PNG, four a row."""
    height, width = images.shape[1:3]
    scale = min(1.0, _TILE / max(height, width))
    small = [_fit(image, max(1, round(height * scale)), max(1, round(width * scale))) for image in images]
    rows = [np.concatenate(small[i : i + 4], axis=1) for i in range(0, len(small), 4)]
    return _png(Image.fromarray(np.concatenate(rows)))


def _png(image: Image.Image) -> bytes:
    held = io.BytesIO()
    image.save(held, "PNG", compress_level=1)
    return held.getvalue()
