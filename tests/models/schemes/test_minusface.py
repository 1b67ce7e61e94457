"""MinusFace without its network: the definition, the round trip, and the part that is missing."""

import numpy as np
import pytest
from scipy.fft import idctn

from tests.models.sample_images import photographs
from unveil.models.catalog import ParameterError, make_attack, make_scheme
from unveil.models.core.frequency_channels import CHANNELS, from_channels, from_planes, to_channels, to_planes
from unveil.models.core.run_context import RunContext
from unveil.models.data.sample import sample
from unveil.models.evaluation.cell import run_cell
from unveil.models.evaluation.scoring import ScoringOptions
from unveil.models.schemes.base import image_secret, seed_secret
from unveil.models.schemes.minusface import MinusFaceKey

SECRET = seed_secret(bytes(range(32)))
SCHEME = make_scheme("minusface", {})


def reduce(large):
    """To an eighth, bilinear without a filter, the corners of the result at those of the large plane."""
    height, width = (side // 8 for side in large.shape)
    rows, columns = (np.linspace(0, 8 * side - 1, side) if side > 1 else np.zeros(1) for side in (height, width))
    along_rows = np.stack([np.interp(rows, np.arange(8 * height), column) for column in large.T], axis=1)
    return np.stack([np.interp(columns, np.arange(8 * width), row) for row in along_rows])


@pytest.mark.parametrize(("height", "width"), [(12, 9), (1, 2)])
def test_channels_are_transformed_back_block_by_block_and_reduced(height, width):
    channels = np.random.default_rng(0).normal(0, 50, (2, 3, CHANNELS, height, width)).astype(np.float32)
    blocks = channels[1, 2].transpose(1, 2, 0).reshape(height, width, 8, 8)
    large = idctn(blocks, axes=(2, 3), norm="ortho").transpose(0, 2, 1, 3).reshape(8 * height, 8 * width)
    np.testing.assert_allclose(from_channels(channels)[1, 2], reduce(large), atol=1e-3)


def test_without_a_new_order_the_image_comes_back_but_for_its_interpolation():
    plain = photographs(2, 32, 48)
    back = SCHEME.encrypt_to_images(plain, MinusFaceKey(np.arange(192)))
    assert np.abs(back.astype(int) - plain).mean() < 6


def test_the_channels_of_all_colours_are_put_in_the_order_of_the_image():
    plain = photographs(3, 16, 24)
    key = SCHEME.key(image_secret(SECRET, 6), 16, 24)
    assert sorted(key.order) == list(range(192))
    channels = to_channels(to_planes(plain[1:2]), range(CHANNELS)).reshape(192, 16, 24)[key.order]
    expected = from_planes(from_channels(channels.reshape(1, 3, CHANNELS, 16, 24)))
    assert (SCHEME.protect(plain, SECRET, first=5)[1] == expected[0]).all()


def test_a_key_must_be_an_order_of_all_channels():
    with pytest.raises(ParameterError, match=r"each of 0\.\.191 once"):
        SCHEME.key_from_json({"order": [0] * 192})
    assert SCHEME.has_image_ciphertext
    assert not SCHEME.invertible


@pytest.mark.parametrize("attack", ["none", "brute-force"])
def test_every_result_names_the_network_that_is_missing(attack):
    options = ScoringOptions(profile="smoke", keys=1, samples=0)
    result = run_cell(SCHEME, make_attack(attack, {}), sample(), options, RunContext()).result
    assert "trained part of MinusFace is missing: the network whose regeneration" in result.notes[0]
