"""The choice among the 12 colour transforms."""

import numpy as np
import pytest

from tests.models.sample_images import photographs
from unveil.models.data.sample import sample
from unveil.models.recovery import color_ambiguity
from unveil.models.schemes.pixelwise import ORDERS


def transform_images(images, element):
    """Images that `element` transforms to natural ones."""
    undone = images ^ np.uint8(255 * (element >= 6))
    return np.ascontiguousarray(undone[..., np.argsort(ORDERS[element % 6])])


def test_variants_of_a_histogram_are_histograms_of_the_variants():
    image = photographs(1, 40, 50)[0]
    variants = color_ambiguity.histogram_variants(color_ambiguity.color_histogram(image)[None])[0]
    for element in range(12):
        copy = image[..., ORDERS[element % 6]] ^ np.uint8(255 * (element >= 6))
        assert np.allclose(color_ambiguity.color_histogram(copy).ravel(), variants[element], atol=1e-6)


@pytest.mark.parametrize("element", range(12))
def test_the_transform_of_photographs_is_undone(element):
    choice = color_ambiguity.choose_color_transform(transform_images(sample().test, element))
    assert choice.element == element
    assert (choice.order, choice.negative) == (element % 6, element >= 6)
    assert 0.9 < choice.probability <= 1


def test_one_photograph_is_mostly_right_and_never_certain():
    images = sample().test[:60]
    odds = color_ambiguity.log_probabilities(images)
    assert np.allclose(np.exp(odds).sum(1), 1)
    assert (odds.argmax(1) == 0).mean() > 0.4  # close-ups of three orange objects; 0.79 on typical photographs
    assert color_ambiguity.choose_color_transform(images[:1]).probability < 0.999


def test_further_evidence_is_added():
    evidence = np.zeros(12)
    evidence[8] = 1000.0
    assert color_ambiguity.choose_color_transform(photographs(4), evidence).element == 8


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 300), (500, 400)])
def test_any_size_is_taken(height, width):
    images = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
    assert 0 <= color_ambiguity.choose_color_transform(images).element < 12


def test_no_image_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        color_ambiguity.choose_color_transform(np.zeros((0, 8, 8, 3), np.uint8))
