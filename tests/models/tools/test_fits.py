"""The scripts that fit the bundled statistics."""

import numpy as np

from tests.models.sample_images import photographs
from unveil.models.data.sample import sample
from unveil.models.recovery import color_ambiguity
from unveil.models.recovery.tanaka import permutation_from_key, recover_permutation
from unveil.models.recovery.tanaka_statistics import BUNDLED_STATISTICS, load_bundled_statistics
from unveil.models.schemes.base import seed_secret
from unveil.models.schemes.tanaka import Tanaka, TanakaSettings
from unveil.models.tools import fit_color_ambiguity, fit_public_statistics


def test_shipped_statistics_are_small():
    assert BUNDLED_STATISTICS.stat().st_size + color_ambiguity.BUNDLED_WEIGHTS.stat().st_size < 1_000_000


def test_statistics_of_other_photographs_work_as_well():
    own = fit_public_statistics.fit_tanaka(sample().train[:100])
    assert own.log_distances.shape == load_bundled_statistics().log_distances.shape
    assert own.likelihoods.shape == load_bundled_statistics().likelihoods.shape
    scheme = Tanaka(TanakaSettings())
    key = scheme.key(seed_secret(bytes(32)), 96, 96)
    recovered = recover_permutation(scheme.encrypt(photographs(8), key), statistics=own)
    true = permutation_from_key(key)
    assert (recovered.place // 3 == true.place // 3).mean() > 0.95  # the pixel of every nibble


def test_the_naturalness_network_learns():
    weights, losses = fit_color_ambiguity.train(sample().train[:120], epochs=3)
    assert losses[-1] < losses[0]
    assert weights["hidden.weight"].shape == (fit_color_ambiguity.HIDDEN, color_ambiguity.FEATURES)
    assert all(np.isfinite(w).all() for w in weights.values())
