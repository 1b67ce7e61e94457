"""InstaHide: the definition, its randomness, and what a client is refused."""

import numpy as np
import pytest

from tests.models.sample_images import photographs
from unveil.models.catalog import ParameterError, make_scheme
from unveil.models.schemes.base import image_secret, seed_secret
from unveil.models.schemes.instahide import DEVIATION, MEAN, RANGE, _public_window

SECRET = seed_secret(bytes(range(32)))


def normalise(image):
    return (image / 255 - np.array(MEAN)) / np.array(DEVIATION)


def test_an_encoding_is_a_weighted_sum_with_random_signs():
    scheme, plain = make_scheme("instahide", {"private": 3, "encodings": 6}), photographs(5, 24, 32)
    ciphertexts = scheme.encrypt_with_secret(plain, SECRET, first=7)
    assert (ciphertexts.dtype, ciphertexts.shape) == (np.float32, (5, 6, 24, 32, 3))
    i, t = 2, 4
    key = scheme.key(image_secret(SECRET, 7 + i), 24, 32)
    others = [(i + 1 + int(4 * share)) % 5 for share in key.partners[t]]
    assert i not in others
    mixed = [normalise(plain[j]) for j in (i, *others)]
    mixed += [_public_window(24, 32, window) for window in key.windows[t]]
    expected = key.signs[t] * sum(weight * image for weight, image in zip(key.coefficients[t], mixed, strict=True))
    np.testing.assert_allclose(ciphertexts[i, t], expected, atol=1e-5)


@pytest.mark.parametrize(("private", "public"), [(2, 2), (2, 4), (1, 3)])
def test_coefficients_keep_the_published_limits(private, public):
    scheme = make_scheme("instahide", {"private": private, "public": public, "encodings": 200})
    rows = scheme.key(SECRET, 2, 2).coefficients
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-6)
    assert rows.shape == (200, private + public)
    assert rows.min() > 0
    assert rows.max() <= 0.65
    assert rows[:, :private].sum(axis=1).min() >= 0.3
    assert rows.std(axis=0).min() > 0.05


def test_signs_are_balanced_and_differ_between_images_and_encodings():
    scheme = make_scheme("instahide", {"encodings": 4})
    first, second = (scheme.key(image_secret(SECRET, i), 32, 32).signs for i in range(2))
    for signs in (first, second, first * second, first[0] * first[1]):
        assert abs(signs.mean()) < 0.1
    assert set(np.unique(first)) == {-1, 1}


def test_the_view_is_the_absolute_value_of_the_first_encoding():
    scheme, plain = make_scheme("instahide", {}), photographs(3, 32, 32)
    ciphertexts, view = scheme.encrypt_with_secret(plain, SECRET), scheme.protect(plain, SECRET)
    assert np.abs(view - np.abs(ciphertexts[:, 0]) * 255 / RANGE).max() <= 0.501
    assert (scheme.view(ciphertexts, plain.shape) == view).all()
    assert (scheme.view(scheme.from_view(plain), plain.shape) == plain).all()


def test_an_image_alone_is_mixed_with_public_images_only():
    scheme, plain = make_scheme("instahide", {"encodings": 2}), photographs(1, 16, 16)
    key = scheme.key(image_secret(SECRET, 0), 16, 16)
    own = key.coefficients[:, :2].sum(axis=1)[:, None, None, None] * normalise(plain)
    public = [
        sum(w * _public_window(16, 16, p) for w, p in zip(weights[2:], windows, strict=True))
        for weights, windows in zip(key.coefficients, key.windows, strict=True)
    ]
    np.testing.assert_allclose(scheme.encrypt(plain, key)[0], key.signs * (own + np.stack(public)), atol=1e-5)


def test_nothing_decrypts_it_and_something_must_be_mixed():
    scheme, plain = make_scheme("instahide", {}), photographs(2, 16, 16)
    assert not scheme.invertible
    assert not scheme.has_image_ciphertext
    with pytest.raises(ValueError, match="cannot decrypt: it has no exact inverse"):
        scheme.decrypt(plain, scheme.key(SECRET, 16, 16))
    with pytest.raises(ParameterError, match="at least two images"):
        make_scheme("instahide", {"private": 1, "public": 0})
