import numpy as np

from tests.models.sample_images import photographs
from unveil.models.attacks.pair_curve import CURVE, make_pair_curve
from unveil.models.core.errors import AttackFailed

TARGETS = photographs(3, 16, 16)


def test_points_with_too_few_pairs_are_noted():
    def solve(count):
        if count < 3:
            raise AttackFailed("too few")
        return lambda images: 255 - images

    curve = make_pair_curve([1, 2, 3], solve, TARGETS, 4, TARGETS)
    assert [(name, count) for name, count, _ in curve.points] == [(CURVE, 3), (CURVE, 4)]
    assert np.array_equal(curve.points[0][2], 255 - TARGETS)
    assert np.array_equal(curve.points[1][2], TARGETS)
    assert curve.notes == ("nothing recovered from 1 pair: too few", "nothing recovered from 2 pairs: too few")
