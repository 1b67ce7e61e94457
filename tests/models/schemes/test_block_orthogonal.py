"""Block-wise orthogonal transforms: the definition, the 8-bit view, explicit keys."""

import base64

import numpy as np
import pytest

from tests.models.sample_images import photographs
from unveil.models.catalog import ParameterError, make_scheme
from unveil.models.metrics.ssim import ssim
from unveil.models.schemes.base import seed_secret

SECRET = seed_secret(bytes(range(32)))


@pytest.mark.parametrize("side", [2, 4, 8])
def test_every_block_is_multiplied_by_the_matrix(side):
    scheme = make_scheme("block-orthogonal", {"block": side})
    plain = photographs(20)[:, : 4 * side, : 6 * side]
    matrix = scheme.key(SECRET, *plain.shape[1:3]).matrix
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3 * side**2), atol=1e-5)
    protected = scheme.encrypt(plain, scheme.key(SECRET, *plain.shape[1:3]))
    view = scheme.encrypt_to_images(plain, scheme.key(SECRET, *plain.shape[1:3]))
    block = np.s_[17, side : 2 * side, 2 * side : 3 * side]
    expected = matrix.astype(np.float64) @ (plain[block].ravel() - 127.5)
    np.testing.assert_allclose(protected[block].ravel(), expected, atol=1e-2)
    assert np.abs(view[block].ravel() - (127.5 + expected / 4)).max() < 0.51


def test_the_view_loses_little_but_is_not_exact():
    scheme = make_scheme("block-orthogonal", {})
    plain = photographs(8)
    key = scheme.key(SECRET, 96, 96)
    view = scheme.encrypt_to_images(plain, key)
    blocks = view.reshape(8, 24, 4, 24, 12).transpose(0, 1, 3, 2, 4).reshape(8, 24, 24, 48)
    values = (blocks.astype(np.float32) - 127.5) * 4 @ key.matrix + 127.5
    read = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    read = read.reshape(8, 24, 24, 4, 12).transpose(0, 1, 3, 2, 4).reshape(plain.shape)
    assert ssim(plain, read).mean() > 0.98
    assert (read != plain).any()
    assert not scheme.invertible
    with pytest.raises(ValueError, match="no exact inverse"):
        scheme.decrypt(view, key)


def test_black_and_white_images_stay_in_range():
    scheme = make_scheme("block-orthogonal", {})
    plain = np.repeat(np.array([0, 255], np.uint8), 32 * 32 * 3).reshape(2, 32, 32, 3)
    protected = scheme.encrypt(plain, scheme.key(SECRET, 32, 32))
    assert np.abs(protected).max() < 510
    np.testing.assert_allclose(protected[0], -protected[1], atol=1e-3)


def test_explicit_matrices_must_be_orthogonal():
    scheme = make_scheme("block-orthogonal", {"block": 2})
    key = scheme.key(SECRET, 4, 4)
    np.testing.assert_array_equal(scheme.key_from_json(scheme.key_to_json(key)).matrix, key.matrix)

    def encode(matrix):
        return {"matrix": base64.b64encode(matrix.astype("<f4").tobytes()).decode()}

    for bad in (key.matrix * 1.01, key.matrix[:11], np.full((12, 12), np.nan)):
        with pytest.raises(ParameterError) as caught:
            scheme.key_from_json(encode(bad))
        assert caught.value.errors[0][0] == "/matrix"
