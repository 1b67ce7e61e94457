import numpy as np
import pytest

from tests.models.evaluation.verdict_cases import leaves, photographs
from unveil.models.metrics.gallery import build_gallery, near_duplicate_clusters


def test_different_images_are_a_cluster_each():
    gallery = build_gallery(photographs())
    assert gallery.effective_size == pytest.approx(61)
    assert len(set(near_duplicate_clusters(leaves(100)))) == 100


def test_near_duplicates_rotations_and_negatives_form_one_cluster():
    image = photographs()[:1]
    brighter = np.clip(image.astype(int) + 9, 0, 255).astype(np.uint8)
    copies = np.concatenate(
        [image, brighter, image[:, ::-1], np.rot90(image, 1, (1, 2)), 255 - image, photographs()[5:6]]
    )
    clusters = near_duplicate_clusters(np.ascontiguousarray(copies))
    assert len(set(clusters[:5])) == 1
    assert clusters[5] != clusters[0]


def test_flat_images_are_one_cluster():
    flat = np.full((4, 32, 32, 3), [[[[10]]], [[[90]]], [[[200]]], [[[255]]]], np.uint8)
    assert build_gallery(flat).effective_size == 1


def test_effective_size_counts_shares():
    images = np.concatenate([np.repeat(photographs()[:1], 3, axis=0), photographs()[1:2]])
    assert build_gallery(images).effective_size == pytest.approx(1 / (0.75**2 + 0.25**2))


def test_distractors_fill_a_small_gallery():
    gallery = build_gallery(photographs()[:10], leaves(100), limit=50)
    assert gallery.size == 50
    assert gallery.available == 110
    assert (gallery.distractors == leaves(100)[:40]).all()
    assert gallery.numbers[10:].tolist() == list(range(10, 50))  # distractors follow the originals
    assert gallery.positions[:10].tolist() == list(range(10))
    assert (gallery.positions[10:] == -1).all()
    with pytest.raises(ValueError, match="size of the originals"):
        build_gallery(photographs()[:10], leaves(100)[:, :48, :48], limit=50)


def test_a_gallery_above_the_limit_is_sampled_and_noted():
    gallery = build_gallery(leaves(100), limit=40)
    assert gallery.size == 40
    assert gallery.available == 100
    assert len(gallery.distractors) == 0
    inside = np.flatnonzero(gallery.columns >= 0)
    assert len(inside) == 40
    assert (gallery.images == leaves(100)[inside]).all()
    assert len(set(gallery.own_clusters)) == 100


def test_an_original_outside_the_gallery_belongs_to_its_near_duplicates():
    images = np.concatenate([leaves(100)[:20], leaves(100)[:20]])
    gallery = build_gallery(images, limit=30)
    assert (gallery.own_clusters[:20] == gallery.own_clusters[20:]).mean() > 0.4


def test_an_empty_set_is_refused():
    with pytest.raises(ValueError, match="must not be empty"):
        build_gallery(leaves(100)[:0])
