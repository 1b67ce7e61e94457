import numpy as np
import pytest
from scipy import stats

from unveil.models.core.statistics import binomial_interval, hits_p_values, holm, upper_bounds


@pytest.mark.parametrize(("count", "hits"), [(5, 3), (8, 4), (30, 4), (500, 5)])
def test_hits_of_a_random_pairing_are_not_more_likely_than_their_p_value(count, hits):
    rng = np.random.default_rng(count)
    pairings = np.stack([rng.permutation(count) for _ in range(40_000)])
    observed = ((pairings == np.arange(count)).sum(axis=1) >= hits).mean()
    assert observed <= hits_p_values(hits, count, 1 / count) + 4 * np.sqrt(observed / 40_000)


def test_all_hits_of_a_small_set_are_as_likely_as_one_order():
    assert hits_p_values(4, 4, 1 / 4) >= 1 / 24
    assert hits_p_values(0, 10, 0.1) == 1
    assert hits_p_values(10, 10, 1.0) == 1


def test_bounds_are_those_of_clopper_and_pearson():
    expected = stats.binomtest(4, 500).proportion_ci(0.95, "exact")
    assert binomial_interval(4, 500) == pytest.approx((expected.low, expected.high))
    one_sided = stats.binomtest(4, 500, alternative="less").proportion_ci(0.999, "exact")
    assert upper_bounds(4, 500, 0.001) == pytest.approx(one_sided.high)
    assert upper_bounds(7, 7, 0.05) == 1.0


def test_holm_steps_down():
    assert holm([0.001, 0.0024, 0.02], family=4, error=0.01) == 2
    assert holm([0.003], family=4, error=0.01) == 0
    assert holm([], family=0, error=0.01) == 0


def test_arrays_give_what_numbers_give():
    hits, trials, chance = [0, 3, 6, 500], [60, 61, 6, 500], [1 / 60, 1 / 61, 1 / 6, 1 / 500]
    assert hits_p_values(hits, trials, chance).tolist() == [
        float(hits_p_values(*one)) for one in zip(hits, trials, chance, strict=True)
    ]
    assert upper_bounds(hits, trials, 0.01).tolist() == [
        float(upper_bounds(h, t, 0.01)) for h, t in zip(hits, trials, strict=True)
    ]
