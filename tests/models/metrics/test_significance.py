import numpy as np
import pytest

from unveil.models.metrics.significance import fisher_z, fit_null


@pytest.mark.parametrize("variants", [1, 8])
@pytest.mark.parametrize("size", [900, 10_000])  # Student's t, Pareto tail
def test_p_values_of_correlations_are_calibrated_or_conservative(size, variants):
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(40):  # the fit varies with the sample it is made from: calibrated on average
        values = np.abs(rng.normal(0, 0.05, (size + 50_000, variants))).max(axis=1)
        null = fit_null(np.tanh(values[:size]), np.arange(size) % 31)
        p = null.p_values(np.tanh(values[size:]))
        shares.append([(p <= level).mean() for level in (1e-2, 1e-3, 1e-4)])
    assert (np.mean(shares, axis=0) <= np.array([1.1e-2, 1.1e-3, 1.1e-4])).all()


def test_the_tail_beyond_all_similarities_falls_but_not_faster_than_exponentially():
    null = fit_null(np.random.default_rng(0).normal(0, 0.04, 250_000), np.arange(250_000))
    p = null.p_values(np.tanh(np.arange(0.1, 1, 0.1)))
    assert (np.diff(p) < 0).all()
    assert p[-1] < 1e-9
    assert (np.diff(np.log(p)) > -100).all()


def test_a_tail_that_few_reconstructions_fill_is_extrapolated_with_care():
    rng = np.random.default_rng(0)
    noise, photograph = rng.normal(0, 0.03, (58, 59)), np.abs(rng.normal(0, 0.3, (2, 59)))
    rows = np.repeat(np.arange(60), 59)
    null = fit_null(np.concatenate([noise, photograph]).ravel(), rows)
    assert null.shape == 0.1
    assert null.p_values(np.array([1.0]))[0] < 1e-8
    assert null.p_values(np.array([0.85]))[0] > 1e-6


def test_a_heavy_tail_is_kept_heavy():
    heavy = np.tanh(np.random.default_rng(0).pareto(3, 200_000) * 0.05)
    null = fit_null(heavy, np.arange(200_000))
    assert null.shape > 0.15


def test_copies_stand_out_from_few_pairs():
    few = fit_null(np.random.default_rng(0).normal(0, 0.3, 30), np.arange(30) % 6)
    assert few.p_values(np.array([1.0]))[0] < 1e-4
    assert few.p_values(np.array([0.6]))[0] > 1e-3


@pytest.mark.parametrize("similarities", [[], [0.5], [0.2, 0.3]])
def test_without_pairs_nothing_is_significant(similarities):
    null = fit_null(np.array(similarities), np.zeros(len(similarities), np.int64))
    assert null.p_values(np.array([1.0, 0.0])).tolist() == [1.0, 1.0]


def test_fisher_z_is_finite_for_equal_images():
    assert np.isfinite(fisher_z(np.array([1.0, -1.0, 1.0000001]))).all()
