import numpy as np

from tests.models.sample_images import photographs
from unveil.models.data.dead_leaves import dead_leaves
from unveil.models.evaluation.ground_truth import misplaced_images
from unveil.models.metrics.gallery import build_gallery
from unveil.models.metrics.matching import match


def test_reconstructions_that_all_resemble_one_original_are_not_misplaced():
    rng = np.random.default_rng(0)
    originals = dead_leaves(60, seed=3)
    originals[0] = np.clip(rng.normal(128, 14, originals[0].shape), 0, 255)
    grey = np.clip(rng.normal(128, 14, originals.shape), 0, 255).astype(np.uint8)
    matches = match(grey, originals, build_gallery(originals))
    by_color = next(scores for scores in matches.scores if scores.name == "color-histogram-clear")
    assert by_color.gap_p_value[1:].max() < 1e-3, "the case that the rule is about"
    assert misplaced_images(matches) == ()


def test_every_image_that_shows_another_original_is_named():
    originals = photographs(60)
    misplaced = misplaced_images(match(np.roll(originals, 1, axis=0), originals, build_gallery(originals)))
    assert {(m.index, m.shows) for m in misplaced} >= {(i, (i - 1) % 60) for i in range(10, 20)}
