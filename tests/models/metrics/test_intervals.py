import numpy as np
import pytest

from unveil.models.metrics import intervals
from unveil.models.metrics.intervals import binomial_interval, summary


def test_an_interval_of_many_images_needs_little_memory_and_is_the_same(monkeypatch):
    values = np.random.default_rng(6).random(300)
    whole = summary(values)
    monkeypatch.setattr(intervals, "_MAX_DRAWS_PER_BATCH", 7 * 300)
    assert summary(values) == whole


def test_binomial_intervals_are_clopper_pearsons():
    assert binomial_interval(0, 10, 0.95) == pytest.approx((0, 0.3085), abs=1e-4)
    assert binomial_interval(5, 10, 0.95) == pytest.approx((0.1871, 0.8129), abs=1e-4)
    assert binomial_interval(10, 10, 0.95) == pytest.approx((0.6915, 1), abs=1e-4)


def test_the_bootstrap_interval_has_its_nominal_coverage():
    draws = np.random.default_rng(5).normal(0.3, 0.2, (200, 60))
    covered = sum(s["ci_low"] <= 0.3 <= s["ci_high"] for s in map(summary, draws))
    assert 176 <= covered <= 200
    constant = summary(np.full(7, 0.1))
    assert constant["ci_low"] == pytest.approx(0.1)
    assert constant["n"] == 7
