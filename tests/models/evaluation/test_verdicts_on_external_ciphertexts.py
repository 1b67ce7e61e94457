"""Ciphertexts that leak in ways that version 1 of the rules does not detect, and sound ciphers."""

import numpy as np
import pytest

from tests.models.evaluation.verdict_cases import (
    cell_verdict_in_scheme,
    external_result,
    leaves,
    noise,
    noise_with_clear_images,
    none_cell,
    photographs,
    verdict,
)
from unveil.models.evaluation.ground_truth import match_public_images


def quarters_swapped(images):
    return np.roll(images, (images.shape[1] // 2, images.shape[2] // 2), (1, 2))


@pytest.mark.parametrize(
    ("name", "distort"),
    [
        ("mirrored", lambda images: images[:, :, ::-1]),
        ("turned", lambda images: np.rot90(images, 1, (1, 2))),
        ("upside down", lambda images: images[:, ::-1]),
        ("quarters swapped", quarters_swapped),
        ("shifted", lambda images: np.roll(images, (5, 7), (1, 2))),
    ],
)
def test_images_that_are_only_moved_leak(name, distort):
    originals = photographs()
    cell = none_cell(originals, np.ascontiguousarray(distort(originals)))
    found, leaking = verdict(cell), cell_verdict_in_scheme(cell).leaking_images
    assert found.verdict == "leaks"
    assert len(leaking) >= 0.9 * len(originals), name
    assert "100 %" in found.because
    assert found.severity.ci_low > 0.9


def test_images_cut_out_at_another_place_leak():
    originals = photographs()
    found = verdict(none_cell(originals[:, :80, :80].copy(), originals[:, 7:87, 5:85].copy()))
    assert found.verdict == "leaks"


def test_unprotected_images_whose_originals_are_rolled_by_one_do_not_match():
    originals = photographs()
    found = verdict(none_cell(originals, np.roll(originals, 1, axis=0)))
    assert found.verdict == "inconclusive"
    assert found.because.startswith("originals do not match: 61 images show another original (image 0 shows 60)")


def test_faint_images_whose_originals_are_rolled_by_one_do_not_match():
    originals = leaves(100)
    faint = (0.15 * originals + 0.85 * noise(originals)).astype(np.uint8)
    assert verdict(none_cell(originals, faint)).verdict == "leaks"
    found = verdict(none_cell(originals, np.roll(faint, 1, axis=0)))
    assert found.verdict == "inconclusive"
    assert "originals do not match" in found.because


@pytest.mark.parametrize(("count", "clear"), [(6, [1, 2, 4]), (60, [17, 23]), (100, [0, 50, 99])])
def test_a_few_images_in_the_clear_leak_and_are_listed(count, clear):
    originals = leaves(100)[:count]
    cell = none_cell(originals, noise_with_clear_images(originals, clear))
    found, leaking = verdict(cell), cell_verdict_in_scheme(cell).leaking_images
    assert found.verdict == "leaks"
    assert sorted(leaking) == clear
    expected = f"the unattacked ciphertexts show {len(clear)} of {count} images recognizably: "
    assert found.because.startswith(expected + ", ".join(map(str, leaking)))


def test_a_few_mirrored_images_leak_and_are_listed():
    originals = leaves(100)
    protected = noise(originals)
    protected[[3, 30]] = originals[[3, 30], :, ::-1]
    assert sorted(cell_verdict_in_scheme(none_cell(originals, protected)).leaking_images) == [3, 30]


def variants(count):
    """Copies of one photograph, each value changed by at most one grey level."""
    change = np.random.default_rng(0).integers(-1, 2, (count, 96, 96, 3))
    return np.clip(photographs()[3].astype(np.int64) + change, 0, 255).astype(np.uint8)


def test_variants_of_one_photograph_are_a_gallery_of_one():
    originals = variants(100)
    found = verdict(none_cell(originals, noise(originals)))
    assert found.verdict == "inconclusive"
    assert found.because.startswith("effective gallery of 1: the 100 gallery images are near-duplicates of each other")
    assert found.power.effective_gallery == 1
    assert found.severity is None


def test_ciphertexts_that_look_natural_are_inconclusive_unless_the_scheme_declares_it():
    originals, unrelated = leaves(60), leaves(60, seed=8)
    cell = none_cell(originals, unrelated)
    found = verdict(cell)
    assert found.verdict == "inconclusive"
    assert found.because.startswith("ciphertexts look like natural images (60 of them)")
    declared = verdict(cell, natural_output=True)
    assert "natural" not in declared.because


def test_ciphertexts_that_show_images_of_a_public_set_are_found():
    public, originals = leaves(60, seed=8), leaves(60)
    protected = noise(originals)
    protected[5] = public[40]
    shown = match_public_images(protected, public)
    assert [(m.index, m.shows) for m in shown] == [(5, 40)]
    assert shown[0].p_value < 1e-6
    result = external_result(originals, protected, public=public)
    assert result.evidence.matched_public == (5,)
    found = verdict(result.evidence)
    assert (result.verdict, found.verdict) == ("leaks", "leaks")
    assert "public" in found.because


def test_sixty_noise_images_are_too_few():
    originals = leaves(100)[:60]
    found = verdict(none_cell(originals, noise(originals)))
    assert found.verdict == "inconclusive"
    assert "60 images cannot exclude that" in found.because
    assert found.power.upper_bound > 1 / 60 + 0.05


def aes_ctr(images):
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    out = bytearray()
    for number, image in enumerate(images):  # a fresh nonce each; fixed here, so that the test can be repeated
        cipher = Cipher(algorithms.AES(bytes(range(32))), modes.CTR((2**64 * (number + 1)).to_bytes(16, "big")))
        out += cipher.encryptor().update(image.tobytes())
    return np.frombuffer(bytes(out), np.uint8).reshape(images.shape)


def chacha20(images):
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

    out = bytearray()
    for number, image in enumerate(images):
        cipher = Cipher(algorithms.ChaCha20(bytes(range(32)), (2**64 * (number + 1)).to_bytes(16, "big")), None)
        out += cipher.encryptor().update(image.tobytes())
    return np.frombuffer(bytes(out), np.uint8).reshape(images.shape)


@pytest.mark.slow
@pytest.mark.parametrize("cipher", [aes_ctr, chacha20])
def test_a_sound_cipher_on_500_images_shows_no_leak(cipher):
    originals = leaves(500)
    cell = none_cell(originals, cipher(originals))
    found = verdict(cell, profile="quick")
    assert found.verdict == "no leak found"
    assert found.power.upper_bound < 0.052
    assert cell_verdict_in_scheme(cell).verdict == "no leak found"
