import numpy as np
import pytest

from tests.models.evaluation.verdict_cases import noise, photographs
from unveil.models.metrics.comparisons import COMPARISONS, SHIFT
from unveil.models.metrics.gallery import build_gallery
from unveil.models.metrics.line_up import LINE_UP_SIZE, most_similar
from unveil.models.metrics.matching import line_up, match, similarities


def test_the_highest_values_come_first_and_of_equal_ones_the_lower_column():
    columns, values = most_similar(np.array([[0.1, 0.5, 0.5, 0.9, 0.2, 0.3], [0, 0, 0, 0, 0, 1]], np.float32))
    assert columns[0].tolist() == [3, 1, 2, 5, 4]
    assert values[0].tolist() == pytest.approx([0.9, 0.5, 0.5, 0.3, 0.2])
    assert columns[1, 0] == 5
    assert most_similar(np.ones((2, 3), np.float32))[0].tolist() == [[0, 1, 2]] * 2


def test_a_line_up_holds_the_gallery_images_of_the_highest_similarities():
    originals, distractors = photographs()[:30], photographs()[30:40]
    reconstructed = (originals // 2 + noise(originals) // 2).astype(np.uint8)
    gallery = build_gallery(originals, distractors)
    matches, reference = match(reconstructed, originals, gallery), similarities(reconstructed, gallery)
    for comparison in COMPARISONS:
        found, expected = line_up(matches[comparison.name], gallery), reference[comparison.name]
        assert found.images.shape == (30, LINE_UP_SIZE)
        highest = -np.sort(-expected, axis=1)[:, :LINE_UP_SIZE]
        assert found.similarities == pytest.approx(highest, abs=1e-4), comparison.name
        assert np.take_along_axis(expected, found.images, axis=1) == pytest.approx(highest, abs=1e-4)
        first = found.ranks == 1
        assert found.is_own[first, 0].all(), "an image of rank 1 leads its line-up"
    aligned = line_up(matches[SHIFT], gallery)
    assert (aligned.images[:, 0] >= 0).all()
    assert (np.diff(aligned.similarities, axis=1)[aligned.images[:, 1:] >= 0] <= 0).all()


def test_near_duplicates_count_as_the_original():
    originals = photographs()[:10].copy()
    originals[1] = originals[0]
    gallery = build_gallery(originals)
    found = line_up(match(originals, originals, gallery)["correlation-1"], gallery)
    assert sorted(found.images[0, :2].tolist()) == [0, 1]
    assert found.is_own[0].tolist() == [True, True, False, False, False]


def test_numbers_of_a_sampled_gallery_are_those_of_the_originals():
    originals = photographs()[:12]
    gallery = build_gallery(originals, limit=6)
    assert (originals[gallery.numbers] == gallery.images).all()
    assert len(gallery.distractors) == 0
    whole = build_gallery(originals, photographs()[12:15])
    assert whole.numbers.tolist() == list(range(15))
    assert (whole.distractors == photographs()[12:15]).all()
