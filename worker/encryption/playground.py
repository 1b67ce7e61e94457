"""Attack previews for the playground: one attack on one image, and on a sample set under the same key.

The sample set is cropped from scikit-image's photographs to the size of the image, because the maps of a key fit one
size only.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from unveil.app.rpc.messages import PreviewReply, PreviewScores
from unveil.models.attacks.base import Attack
from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images, to_png
from unveil.models.core.run_context import RunContext
from unveil.models.core.verdict_rules.rules import above_chance
from unveil.models.core.verdict_rules.types import FAMILY_ERROR
from unveil.models.data.sample import load_photograph
from unveil.models.evaluation.attacker_view import build_attack_input, split_images
from unveil.models.evaluation.isolation import run_attack
from unveil.models.evaluation.key_evidence import collect_evidence
from unveil.models.metrics.gallery import build_gallery
from unveil.models.metrics.matching import match
from unveil.models.metrics.ssim import ssim
from unveil.models.schemes.base import Scheme

BUNDLED_PHOTOS = {
    "astronaut": "astronaut.png",
    "coffee": "coffee.png",
    "cat": "chelsea.png",
    "rocket": "rocket.jpg",
}  # fmt: skip
MAX_PHOTO_SIDE = 256
_SAMPLE_FILES = ("astronaut.png", "coffee.png", "chelsea.png", "motorcycle_left.png")
_MAX_TILE_SIDE = 64  # of an image in the mosaic


def bundled_photo(name: str) -> bytes:
    """One of BUNDLED_PHOTOS as a PNG, scaled down."""
    image = Image.fromarray(load_photograph(BUNDLED_PHOTOS[name]))
    image.thumbnail((MAX_PHOTO_SIDE, MAX_PHOTO_SIDE), Image.Resampling.LANCZOS)
    return to_png(np.asarray(image))


def preview_attack(
    scheme: Scheme[Any, Any], attack: Attack[Any], image: Images, key: Any, secret: bytes | None
) -> PreviewReply:
    """Run `attack` on the encrypted image [H, W, 3] and the encrypted sample set.

    key: for the size of the image. secret: given if the scheme has a key per image; the keys of the set derive from it.
    """
    started_at = time.perf_counter()
    height, width = image.shape[:2]
    plain = np.concatenate([image[None], _sample_images(height, width)])

    def protect(images: Images, first_index: int) -> Images:
        if secret is None:
            return scheme.encrypt_to_images(images, key)
        protected = scheme.protect(images, secret, first_index)
        if first_index == 0:
            protected[:1] = scheme.encrypt_to_images(images[:1], key)
        return protected

    image_split = split_images(attack, plain, _known_images(height, width))
    attack_input = build_attack_input(scheme, attack, image_split, protect)
    try:
        attack_result = run_attack(attack, attack_input, RunContext(ablation=False))
    except AttackFailed as error:
        return PreviewReply(None, str(error), [])
    reconstructed = attack_result.reconstructed
    assert reconstructed is not None, "the dashboard offers attacks that reconstruct images"
    matches = match(reconstructed, plain, build_gallery(plain))
    best = max(matches.scores, key=lambda scores: scores.hits / len(plain) - scores.chance)
    scores = ssim(plain, reconstructed)
    recovered_key = attack_result.key
    preview_scores = PreviewScores(
        ssim=float(scores[0]),
        set_ssim=float(scores.mean()),
        identified=bool(best.rank[0] == 1),
        identified_of_set=best.hits,
        set=len(plain),
        above_chance=above_chance(collect_evidence(matches), FAMILY_ERROR),
        exact_key=None if recovered_key is None else min(scheme.key_agreement(recovered_key, key).values()) == 1.0,
        seconds=round(time.perf_counter() - started_at, 3),
    )
    images = [to_png(reconstructed[0]), _encode_mosaic(reconstructed[1:])]
    return PreviewReply(preview_scores, None, images)


def sample_mosaic(height: int, width: int) -> bytes:
    """The plain sample set."""
    return _encode_mosaic(_sample_images(height, width))


@lru_cache(maxsize=4)
def _sample_images(height: int, width: int) -> Images:
    """[16, height, width, 3]: the four corners of four photographs, cropped and resized."""
    return np.stack(
        [
            _crop_resize(corner, height, width)
            for file in _SAMPLE_FILES
            for corner in _split_corners(load_photograph(file))
        ]
    )


@lru_cache(maxsize=4)
def _known_images(height: int, width: int) -> Images:
    """[4, height, width, 3]: the whole photographs, which an attack with pairs knows in plain."""
    return np.stack([_crop_resize(load_photograph(file), height, width) for file in _SAMPLE_FILES])


def _split_corners(photo: Images) -> list[Images]:
    rows, columns = photo.shape[0] // 2, photo.shape[1] // 2
    return [photo[y : y + rows, x : x + columns] for y in (0, rows) for x in (0, columns)]


def _crop_resize(image: Images, height: int, width: int) -> Images:
    scale = min(image.shape[0] / height, image.shape[1] / width)
    rows, columns = max(1, int(height * scale)), max(1, int(width * scale))
    top, left = (image.shape[0] - rows) // 2, (image.shape[1] - columns) // 2
    cropped = Image.fromarray(image[top : top + rows, left : left + columns])
    return np.asarray(cropped.resize((width, height), Image.Resampling.LANCZOS))


def _encode_mosaic(images: Images) -> bytes:
    """Sixteen images as one PNG, four per row."""
    height, width = images.shape[1:3]
    scale = min(1.0, _MAX_TILE_SIDE / max(height, width))
    resized = [_crop_resize(image, max(1, round(height * scale)), max(1, round(width * scale))) for image in images]
    rows = [np.concatenate(resized[i : i + 4], axis=1) for i in range(0, len(resized), 4)]
    return to_png(np.concatenate(rows))
