from dataclasses import replace

import pytest

from unveil.models import catalog
from unveil.models.core.cell_result import Controls
from unveil.models.core.errors import AttackFailed
from unveil.models.core.run_context import RunContext
from unveil.models.data.sample import sample
from unveil.models.evaluation import external_ciphertexts, isolation
from unveil.models.evaluation.external_ciphertexts import candidate_schemes, run_external
from unveil.models.evaluation.scoring import ScoringOptions
from unveil.models.schemes.base import seed_secret

ATTACKS = ["second-order", "fr-sorted", "simulated-pairs"]
OPTIONS = ScoringOptions(profile="smoke", samples=4)


def upload(originals=True, height=96, width=96, name="pixelwise"):
    """Ciphertexts of a scheme that is not named, as an auditor uploads them."""
    data = sample().take(24, 20)
    train, test = data.train[:, :height, :width], data.test[:, :height, :width]
    scheme, secret = catalog.make_scheme(name, {}), seed_secret(bytes(32))
    return replace(
        data,
        train=scheme.protect(train, secret, 20),
        test=scheme.protect(test, secret),
        train_originals=train if originals else None,
        test_originals=test if originals else None,
    )


def attack(name):
    return catalog.make_attack(name, {}, "smoke")


def test_with_originals_an_attack_is_scored_and_controlled():
    result_cell = run_external(attack("fr"), upload(), OPTIONS, RunContext())
    assert result_cell.result.ssim.mean > 0.1
    assert result_cell.result.ssim.n == 20
    assert result_cell.result.controls == Controls(positive="passed", negative="passed")
    assert result_cell.samples[0].plain is not None


def test_without_originals_there_are_samples_and_a_word_on_what_to_upload():
    result_cell = run_external(attack("fr"), upload(originals=False), OPTIONS, RunContext())
    assert result_cell.result.ssim is None
    assert result_cell.result.verdict == "inconclusive"
    assert any("upload `originals`" in note for note in result_cell.result.notes)
    assert len(result_cell.samples) == 4
    assert all(s.plain is None for s in result_cell.samples)


def test_an_attack_without_material_names_what_to_upload():
    external_reason = catalog.external_not_applicable_reason
    assert "unknown scheme" in external_reason(attack("brute-force"), originals=True, public=True)
    with pytest.raises(AttackFailed, match="unknown scheme"):
        run_external(attack("brute-force"), upload(), OPTIONS, RunContext())


def test_an_attack_for_every_scheme_needs_no_guess_and_one_for_some_tries_each():
    assert candidate_schemes(attack("fr"), 96, 96) == [("", None)]
    for name in catalog.attacks():
        guesses = candidate_schemes(attack(name), 95, 95)
        assert all(scheme is None or scheme.size_multiple == 1 for _, scheme in guesses)


def test_only_the_best_guess_at_the_scheme_is_run_for_a_curve(monkeypatch):
    with_curve = []

    def run_attack(attack, attack_input, context):
        with_curve.append((attack_input.scheme.name, context.ablation))
        return isolation.run_attack(attack, attack_input, context)

    monkeypatch.setattr(external_ciphertexts, "run_attack", run_attack)
    outcome = run_external(attack("known-plaintext"), upload(name="tanaka"), OPTIONS, RunContext())
    names = [scheme.name for _, scheme in candidate_schemes(attack("known-plaintext"), 96, 96)]
    assert with_curve == [*((name, False) for name in names), ("tanaka", True)]
    assert [x for x, _ in outcome.curves["ssim_by_pairs"]] == [1.0, 2.0, 3.0, 4.0]
    assert "4 pairs; 1 of them suffices" in " ".join(outcome.result.notes)


def test_an_attack_runs_once_for_schemes_of_which_it_uses_the_same():
    guesses = {name: [scheme.name for _, scheme in candidate_schemes(attack(name), 96, 96)] for name in ATTACKS}
    assert guesses == {
        "second-order": ["block-orthogonal", "blockwise"],  # whose ciphertexts have different ranges
        "fr-sorted": ["pixelwise"],
        "simulated-pairs": ["pixelwise"],
    }
    assert {scheme.name for _, scheme in candidate_schemes(attack("key-recovery"), 96, 96)} >= {"tanaka", "etc"}
