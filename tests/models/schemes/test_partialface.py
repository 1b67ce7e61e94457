"""PartialFace: the definition, its tables and its keys."""

import numpy as np
import pytest
from scipy.fft import dctn

from tests.models.sample_images import photographs
from unveil.models.catalog import ParameterError, make_scheme
from unveil.models.core.frequency_channels import CHANNELS, from_planes, to_channels, to_planes
from unveil.models.schemes.base import image_secret, seed_secret
from unveil.models.schemes.partialface import DROPPED, ORDERS, SUBSETS, PartialFaceKey

SECRET = seed_secret(bytes(range(32)))
SCHEME = make_scheme("partialface", {})
LUMA = (0.299, 0.587, 0.114)


def enlarge(plane):
    """Eightfold, bilinear, the corners of the result at those of the plane."""
    height, width = plane.shape
    rows, columns = (np.linspace(0, length - 1, 8 * length) for length in (height, width))
    along_rows = np.stack([np.interp(rows, np.arange(height), column) for column in plane.T], axis=1)
    return np.stack([np.interp(columns, np.arange(width), row) for row in along_rows])


@pytest.mark.parametrize(("height", "width"), [(12, 9), (2, 1)])
def test_channels_are_the_block_dct_of_the_enlarged_image(height, width):
    image = photographs(1, height, width)
    large = enlarge((image[0] * np.array(LUMA)).sum(axis=2) - 128)
    blocks = large.reshape(height, 8, width, 8).transpose(0, 2, 1, 3)
    expected = dctn(blocks, axes=(2, 3), norm="ortho").reshape(height, width, CHANNELS).transpose(2, 0, 1)
    channels = to_channels(to_planes(image), range(CHANNELS))[0, 0]
    np.testing.assert_allclose(channels, expected, atol=1e-3)
    assert (from_planes(to_planes(image)) == image).all()


def test_a_ciphertext_holds_one_subset_of_each_colour_in_one_order():
    plain = photographs(3, 16, 24)
    ciphertexts = SCHEME.encrypt_with_secret(plain, SECRET, first=5)
    assert (ciphertexts.dtype, ciphertexts.shape) == (np.float32, (3, 27, 16, 24))
    key = SCHEME.key(image_secret(SECRET, 6), 16, 24)
    channels = to_channels(to_planes(plain[1:2]), range(CHANNELS))[0]
    order = [SUBSETS[key.subset][place] for place in ORDERS[key.order]]
    np.testing.assert_array_equal(ciphertexts[1].reshape(3, 9, 16, 24), channels[:, order])


def test_the_subsets_split_all_channels_but_the_lowest():
    assert sorted(channel for subset in SUBSETS for channel in subset) == sorted(set(range(64)) - set(DROPPED))
    assert SUBSETS[0][:3] == (5, 34, 38)
    assert all(sorted(order) == list(range(9)) for order in ORDERS)


def test_all_18_keys_occur():
    keys = {SCHEME.key(image_secret(SECRET, i), 8, 8) for i in range(300)}
    assert len(keys) == 18
    assert SCHEME.key_space_bits(96, 96) == pytest.approx(np.log2(18))


def test_the_view_does_not_depend_on_the_order_and_is_that_of_the_controls():
    plain = photographs(2, 16, 16)
    first, second = (SCHEME.encrypt_to_images(plain, PartialFaceKey(3, order)) for order in (0, 2))
    assert np.abs(first.astype(int) - second).max() <= 1
    assert (SCHEME.view(SCHEME.from_view(plain), plain.shape) == plain).all()


def test_it_is_no_image_and_nothing_decrypts_it():
    assert not SCHEME.has_image_ciphertext
    assert not SCHEME.invertible


@pytest.mark.parametrize("field", [{"subset": 6, "order": 0}, {"subset": True, "order": 0}, {"order": 1}])
def test_a_key_out_of_range_is_refused(field):
    with pytest.raises(ParameterError, match="from 0 to 5"):
        SCHEME.key_from_json(field)
