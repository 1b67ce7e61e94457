"""What an attack sees of a picture and of sixteen others under the same key."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unveil.app.rpc.messages import PreviewScores
from unveil.models.catalog import make_attack, make_scheme, new_secret
from unveil.models.core.images import Images, pad
from unveil.models.schemes.base import seed_secret
from unveil.worker.encryption import playground


def load_photo(name: str = "cat") -> Images:
    with Image.open(io.BytesIO(playground.bundled_photo(name))) as image:
        image.thumbnail((128, 128))
        return np.asarray(image.convert("RGB"))


def run_preview(scheme: str, attack: str, **params: Any) -> tuple[PreviewScores, Images]:
    scheme_made = make_scheme(scheme, params)
    # One key: among seventeen, a ciphertext is taken for its own picture by chance now and then.
    photo, secret = pad(load_photo()[None], scheme_made.size_multiple)[0], seed_secret(bytes(range(32)))
    key = scheme_made.key(secret, *photo.shape[:2])
    settings = {"curve": False} if attack == "key-recovery" else {}
    reply = playground.preview_attack(
        scheme_made, make_attack(attack, settings), photo, key, secret if scheme_made.key_per_image else None
    )
    assert reply.scores is not None
    assert len(reply.images) == 2
    with Image.open(io.BytesIO(reply.images[0])) as reconstructed:
        return reply.scores, np.asarray(reconstructed)


def test_unattacked_it_is_the_ciphertext_that_encryption_gave() -> None:
    scheme_made, secret = make_scheme("pixelwise", {"key_mode": "different"}), new_secret()
    photo = load_photo()
    key = scheme_made.key(secret, *photo.shape[:2])
    reply = playground.preview_attack(scheme_made, make_attack("none", {}), photo, key, secret)
    with Image.open(io.BytesIO(reply.images[0])) as image:
        assert np.array_equal(np.asarray(image), scheme_made.encrypt(photo[None], key)[0])


@pytest.mark.parametrize("scheme", ["pixelwise", "tanaka"])
def test_key_recovery_brings_back_the_picture_and_the_key(scheme: str) -> None:
    figures, reconstructed = run_preview(scheme, "key-recovery")
    assert figures.exact_key
    assert figures.ssim == 1.0
    assert figures.identified_of_set == figures.set == 17
    assert np.array_equal(reconstructed, pad(load_photo()[None], make_scheme(scheme, {}).size_multiple)[0])


@pytest.mark.parametrize("attack", ["known-plaintext", "chosen-plaintext"])
@pytest.mark.parametrize("scheme", ["ele", "etc"])
def test_pairs_break_schemes_that_hide_from_ciphertext_only_attackers(scheme: str, attack: str) -> None:
    unattacked, _ = run_preview(scheme, "none")
    figures, _ = run_preview(scheme, attack)
    assert unattacked.ssim < 0.2
    assert figures.ssim > 0.9
    assert figures.identified_of_set == figures.set
    assert figures.exact_key or attack == "known-plaintext", "four pairs determine most of the key"


def test_chosen_plaintext_undoes_a_permutation_that_is_no_map_of_blocks_of_four() -> None:
    figures, _ = run_preview("vit-permutation", "chosen-plaintext")
    assert figures.ssim == 1.0


def test_a_key_for_each_image_leaves_what_fr_sees() -> None:
    none, _ = run_preview("pixelwise", "none", key_mode="different")
    fr, _ = run_preview("pixelwise", "fr", key_mode="different")
    assert not none.above_chance
    assert fr.above_chance
    assert none.ssim < 0.1 < fr.ssim
    assert fr.exact_key is None


def test_every_photograph_is_small_and_the_set_has_the_pictures_shape() -> None:
    for name in playground.BUNDLED_PHOTOS:
        with Image.open(io.BytesIO(playground.bundled_photo(name))) as image:
            assert max(image.size) == playground.MAX_PHOTO_SIDE
    with Image.open(io.BytesIO(playground.sample_mosaic(100, 200))) as mosaic:
        assert mosaic.size == (4 * 64, 4 * 32)
