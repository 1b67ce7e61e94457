import json

import numpy as np
import pytest

from benchmarks import verdict_error_rates as rates
from unveil.models.metrics.comparisons import COMPARISON_NAMES


@pytest.mark.slow
def test_a_leak_is_distinguished_from_noise(tmp_path, monkeypatch):
    out, pool = tmp_path / "rates.json", tmp_path / "pool.npz"
    sizes = ["--images", "30", "--evaluations", "3", "--leak-evaluations", "2", "--attacks", "2", "--keys", "1"]
    files = ["--pool", "60", "--only", "noise,5% clear", "--out", str(out), "--pool-file", str(pool)]
    for _ in range(2):  # the second time from the stored pool
        monkeypatch.setattr("sys.argv", ["verdict_error_rates", *sizes, *files])
        rates.main()
        noise, clear = json.loads(out.read_text())
        assert noise["verdicts"] == {"inconclusive": 3}
        assert clear["verdicts"] == {"leaks": 2}


def test_simulated_matches_pair_each_row_with_its_original():
    similarity = np.zeros((3, 3, len(COMPARISON_NAMES)), np.float32)
    similarity[np.arange(3), [1, 2, 0]] = 0.9
    best = similarity.argmax(axis=1)
    pool = rates.Pool(similarity, best, np.ones((3, similarity.shape[2])), {"clear": 0}, {"clear": 3})
    rng = np.random.default_rng(0)
    right = rates.matches(pool, np.arange(3), np.array([1, 2, 0]), rng)
    wrong = rates.matches(pool, np.arange(3), np.array([0, 1, 2]), rng)
    assert [score.hits for score in right.scores] == [3] * similarity.shape[2]
    assert [score.hits for score in wrong.scores] == [0] * similarity.shape[2]
    assert right.scores[0].own.tolist() == pytest.approx([0.9] * 3)
    assert wrong.scores[0].own.tolist() == [0] * 3
    assert right.scores[0].null.threshold == 0
    assert wrong.scores[0].null.threshold > 0, "a third of the similarities with other originals is 0.9"
