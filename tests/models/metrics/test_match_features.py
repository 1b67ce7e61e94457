import numpy as np
import pytest

from tests.models.evaluation.verdict_cases import photographs
from unveil.models.evaluation.calibration import shuffle_blocks
from unveil.models.metrics import match_features as features


def test_grid_averages_are_means_of_cells():
    values = np.random.default_rng(0).random((3, 12, 20))
    expected = values.reshape(3, 4, 3, 5, 4).mean(axis=(2, 4))
    assert features.grid_average(values, 4, 5) == pytest.approx(expected)
    assert features.grid_average(values, 99, 99) == pytest.approx(values)


def test_the_eight_orientations_are_different_and_closed():
    grid = np.arange(9.0).reshape(1, 3, 3)
    variants = features.dihedral(grid)[0]
    assert len({v.tobytes() for v in variants}) == 8
    again = features.dihedral(variants)
    assert {v.tobytes() for v in again.reshape(64, 3, 3)} == {v.tobytes() for v in variants}


@pytest.mark.parametrize("size", [4, 8, 16])
def test_block_features_do_not_depend_on_the_order_of_blocks(size):
    images = photographs()[:5]
    shuffled = shuffle_blocks(images, size, np.random.default_rng(0))
    assert not np.array_equal(images, shuffled)
    a, b = (features.block_features(x, features.luma(x))[size] for x in (images, shuffled))
    assert a == pytest.approx(b, abs=0.05)


def test_the_second_variant_of_blocks_and_colors_is_the_negative():
    images = photographs()[:5]
    for function in (lambda x: features.block_features(x, features.luma(x))[8], features.color_features):
        assert function(images)[:, 1] == pytest.approx(function(255 - images)[:, 0], abs=1e-2)


@pytest.mark.parametrize("function", [features.gradient_features, features.spectrum_features])
def test_variants_are_those_of_the_turned_and_mirrored_image(function):
    grey = features.luma(photographs()[:5])
    variants = function(grey)
    for moved in (
        grey[:, :, ::-1],
        np.rot90(grey, 1, (1, 2)),
        np.rot90(grey[:, :, ::-1], 1, (1, 2)),
        grey[:, ::-1, ::-1],
    ):
        found = function(np.ascontiguousarray(moved))[:, 0]
        distance = np.abs(variants - found[:, None]).max(axis=2).min(axis=1)
        assert distance.max() < 0.02 * np.abs(variants).max()


def test_the_spectrum_does_not_depend_on_a_cyclic_shift():
    grey = features.luma(photographs()[:5])
    shifted = np.roll(grey, (6, 10), (1, 2))  # whole cells of the 48x48 grid
    assert features.spectrum_features(grey) == pytest.approx(features.spectrum_features(shifted), abs=1e-3)
