import numpy as np
import pytest

from tests.models.evaluation.verdict_cases import leaves, noise, photographs
from unveil.models.evaluation.calibration import calibration_images
from unveil.models.metrics.comparisons import COMPARISON_NAMES, COMPARISONS, SHIFT
from unveil.models.metrics.gallery import build_gallery
from unveil.models.metrics.matching import match, similarities


def identified(reconstructed, originals, name, gallery=None):
    matches = match(np.ascontiguousarray(reconstructed), originals, gallery or build_gallery(originals))
    return matches[name].hits / len(originals)


@pytest.mark.parametrize(
    ("distortion", "comparison"),
    [
        ("negative", "correlation-1"),
        ("mirrored", "dihedral-24"),
        ("turned", "dihedral-12"),
        ("shifted", SHIFT),
        ("shifted", "power-spectrum"),
        ("blocks shuffled", "blocks-8"),
        ("blocks shuffled", "color-histogram"),
        ("blurred", "correlation-8"),
        ("posterized", "power-spectrum"),
        ("reduced to 10 % contrast", "gradient-histogram"),
    ],
)
def test_each_distortion_is_recognized_by_a_comparison_made_for_it(distortion, comparison):
    originals = photographs()
    assert identified(calibration_images(originals)[distortion], originals, comparison) > 0.8


def test_comparisons_at_their_places_do_not_see_quarter_turns():
    originals = photographs()
    assert identified(np.rot90(originals, 1, (1, 2)), originals, "correlation-4") < 0.2


def test_noise_is_identified_at_chance_by_every_comparison():
    originals = leaves(100)
    matches = match(noise(originals), originals, build_gallery(originals))
    assert [score.name for score in matches.scores] == list(COMPARISON_NAMES)
    for score in matches.scores:
        assert score.hits <= 8, score.name
        assert score.chance == pytest.approx(1 / 100)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_flat_reconstructions_identify_nothing(value):
    originals = photographs()[:20]
    matches = match(np.full_like(originals, value), originals, build_gallery(originals))
    for score in matches.scores:
        assert score.hits <= 1, score.name  # of features standardized by the gallery, one image is nearest to flat
    assert matches["correlation-1"].hits == 0
    assert (matches["correlation-1"].chosen == -2).all()


def test_ties_count_against_the_attacker():
    originals = photographs()[:12]
    same = np.repeat(originals[:1], 12, axis=0)
    matches = match(same, originals, build_gallery(originals))
    for score in matches.scores:
        assert score.hits <= 1, score.name


def test_near_duplicates_of_the_original_are_hits_with_a_higher_chance():
    originals = np.repeat(photographs()[:8], 3, axis=0)
    gallery = build_gallery(originals)
    matches = match(originals, originals, gallery)
    assert gallery.effective_size == pytest.approx(8)
    assert matches["correlation-1"].hits == 24
    assert matches["correlation-1"].chance == pytest.approx(1 / 8)


def test_a_subsampled_gallery_ranks_every_image_and_notes_it():
    originals = leaves(100)
    gallery = build_gallery(originals, limit=40)
    matches = match(np.ascontiguousarray(originals[:, :, ::-1]), originals, gallery)
    assert matches.notes == ("gallery: a random sample of 40 of 100 images",)
    assert matches["dihedral-24"].hits == 100
    assert matches[SHIFT].hits == 100
    assert match(noise(originals), originals, gallery)["dihedral-24"].hits < 12


def test_chance_does_not_depend_on_how_candidates_for_alignment_are_selected():
    originals = leaves(100)[:40]
    gallery = build_gallery(originals)
    hits = [match(noise(originals, seed), originals, gallery)[SHIFT].hits for seed in range(10)]
    assert sum(hits) <= 22  # 10 expected


@pytest.mark.parametrize("shape", [(7, 9), (16, 40), (97, 101), (1, 1), (130, 60)])
def test_any_size_is_compared(shape):
    rng = np.random.default_rng(0)
    originals = rng.integers(0, 256, (12, *shape, 3), dtype=np.uint8)
    matches = match(originals, originals, build_gallery(originals))
    assert matches.queries == 12
    if min(shape) > 6:
        assert matches["correlation-1"].hits == 12


def test_single_images_are_compared():
    image = photographs()[:1]
    assert match(image, image, build_gallery(image)).gallery == 1


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="must have the shape of the originals"):
        match(photographs()[:3], photographs()[:4], build_gallery(photographs()[:4]))


def test_all_similarities_agree_with_the_ranks():
    originals = photographs()
    blurred = calibration_images(originals)["blurred"]
    gallery = build_gallery(originals)
    matrices, matches = similarities(blurred, gallery), match(blurred, originals, gallery)
    for comparison in COMPARISONS:
        own = np.diagonal(matrices[comparison.name])
        ranks = (matrices[comparison.name] >= own[:, None] - 1e-5).sum(axis=1)
        assert (ranks == matches[comparison.name].rank).all(), comparison.name
