import sys

import numpy as np
import pytest
import torch

from unveil.models.evaluation.protect_function import InvalidScheme, ProtectFunction

PLAIN = np.random.default_rng(1).integers(0, 256, (100, 16, 16, 3), np.uint8)


def _protect(function, **options):
    return ProtectFunction(function, "protect", **options)


def test_a_function_gets_all_images_in_order():
    assert (_protect(lambda images: 255 - images)(PLAIN) == 255 - PLAIN).all()


def test_a_tensor_is_as_good_as_an_array():
    assert (_protect(lambda images: torch.from_numpy(255 - images))(PLAIN) == 255 - PLAIN).all()


def test_with_a_key_per_image_each_image_gets_a_call_of_its_own():
    calls = []

    def count(images):
        calls.append(len(images))
        return images

    _protect(count, key_per_image=True)(PLAIN[:5])
    assert calls == [1] * 5


def _raise_on_70(images):
    if (images == PLAIN[70]).all(axis=(1, 2, 3)).any():
        raise ZeroDivisionError("no key")
    return images


def _change_argument(images):
    images[2] = 0
    return images.copy()


def _change_in_place(images):
    images ^= 255
    return images


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda images: None, "protect returned None for images 0 to 63; expected uint8 [64, 16, 16, 3]"),
        (lambda images: "no", "protect returned a str for images 0 to 63; expected uint8"),
        (lambda images: images[:, :8], "protect returned shape [64, 8, 16, 3] for images 0 to 63; expected uint8"),
        (lambda images: images[:, :, :, 0], "protect returned shape [64, 16, 16] for images 0 to 63"),
        (lambda images: images / 255, "protect returned float64 values from"),
        (
            lambda images: images / 255,
            "for image 0 (scale them to 0..255, round and convert with .astype(numpy.uint8))",
        ),
        (lambda images: images * np.float32(2), "out of the range 0 to 255; expected uint8"),
        (lambda images: images * np.nan, "nan to nan for image 0, out of the range 0 to 255"),
        (lambda images: images.astype("m8[s]"), "protect returned timedelta64[s] for image 0; expected uint8"),
        (lambda images: images * 1j, "protect returned complex128 for image 0; expected uint8"),
        (
            lambda images: torch.from_numpy(images).bfloat16(),
            "protect returned a tensor that is no NumPy array (Got unsupported ScalarType BFloat16) for images 0 to 63",
        ),
        (lambda images: sys.exit(3), "protect raised SystemExit: 3 on image 0; it must protect every image"),
        (_raise_on_70, "protect raised ZeroDivisionError: no key on image 70; it must protect every image"),
        (_change_argument, "protect changed its argument at image 2; expected a new array"),
        (_change_in_place, "protect changed its argument at image 0; expected a new array"),
    ],
)
def test_an_answer_that_breaks_a_rule_names_the_image_the_answer_and_the_rule(function, message):
    with pytest.raises(InvalidScheme) as raised:
        _protect(function)(PLAIN)
    assert message in str(raised.value)


def _depends_on_batch(images):
    return images + np.uint8(len(images))


@pytest.mark.parametrize(
    ("function", "randomised"),
    [
        (lambda images: 255 - images, False),
        (lambda images: images ^ np.random.default_rng(0).integers(0, 256, images.shape[1:], np.uint8), False),
        (lambda images: images ^ np.random.default_rng().integers(0, 256, images.shape, np.uint8), True),
        (_depends_on_batch, True),
    ],
    ids=["fixed map", "fixed key", "new key each call", "depends on the batch"],
)
def test_nondeterminism_is_detected(function, randomised):
    assert _protect(function).is_randomised(PLAIN) is randomised
