"""Verdicts computed from the evidence that cells store."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.factories import SMOKE, make_result
from tests.models.evaluation.verdict_cases import cell as evidence_of
from unveil.app.evaluations.verdicts import compute_verdicts
from unveil.models import catalog
from unveil.models.core.profiles import PROFILE_KEYS
from unveil.models.core.verdict_rules.evidence import CellEvidence, ImageFinding, KeyEvidence, Rate

DIFFERENT = {"name": "pixelwise", "key_mode": "different"}
EXTERNAL = {"name": "external", "dataset": "ds_1", "dataset_name": "mine"}
pytestmark = pytest.mark.usefixtures("full_profile")


def row(attack: str, *keys: KeyEvidence, scheme: dict[str, Any] = DIFFERENT, **columns: Any) -> SimpleNamespace:
    """A finished cell whose attack found nothing in 500 images, or what `keys` say."""
    made = catalog.make_attack(attack, columns.pop("settings", {}), "quick")
    evidence = evidence_of(attack, *keys, settings=vars(made.settings), model=made.threat_model.name)
    if attack == "brute-force":
        evidence = CellEvidence(attack, "ciphertext-only", {}, "succeeded", effective_bits=256.0)
    result = make_result(0.02, evidence=evidence, verdict="inconclusive").to_json()
    values = {"status": "succeeded", "error": None, "attempt": 1, "result": result, **columns}
    entry = catalog.flatten_settings(made)
    return SimpleNamespace(id=attack, scheme=scheme, attack=entry, threat_model=made.threat_model.name, **values)


def verdict_of(*cells: SimpleNamespace, keys: int = PROFILE_KEYS, **settings: Any):
    (verdict,), results = compute_verdicts({**SMOKE, "profile": "quick", "keys": keys, **settings}, cells)
    return verdict, results


ALL = ("none", "fr", "fr-sorted", "brute-force", "simulated-pairs", "itn")


def test_no_leak_found_needs_every_attack_of_the_profile_that_applies():
    cells = [row(name) for name in ALL]
    verdict, results = verdict_of(*cells)
    assert (verdict.verdict, verdict.rules_version) == ("no leak found", 2)
    assert verdict.covers == ("ciphertext-only", "+public images", "known-plaintext")
    assert {note.threat_model for note in verdict.not_claimed} == {"chosen-plaintext", "+model"}
    assert {result.verdict for result in results.values()} == {"no leak found"}
    for left_out in ALL:
        found, _ = verdict_of(*(cell for cell in cells if cell.id != left_out))
        assert found.verdict == "inconclusive", left_out
        assert [note.attack for note in found.not_tried] == [left_out]


def test_a_weakened_attack_and_too_few_keys_are_named():
    weak = row("fr", settings={"L": 1})
    verdict, _ = verdict_of(*(weak if name == "fr" else row(name) for name in ALL))
    assert verdict.verdict == "inconclusive"
    assert [(note.attack, note.reason) for note in verdict.weakened] == [("fr", "L=1, the profile has 8")]
    few, _ = verdict_of(*map(row, ALL), keys=1)
    assert {note.attack for note in few.weakened} == {"none", "fr", "fr-sorted", "simulated-pairs"}
    assert "keys=1, the profile has 3" in few.because


def test_no_scheme_is_without_leak_before_every_cell_has_ended():
    running = row("gan", status="running", result=None)
    verdict, _ = verdict_of(*map(row, ALL), running)
    assert verdict.verdict == "inconclusive"
    assert "attacks are still running" in verdict.because


def test_a_leak_names_its_images_and_its_severity():
    leaking = KeyEvidence(rates=(Rate("dihedral-24", 200, 500, 0.002),), images_tested=500, findings=(
        ImageFinding(23, 1e-12, "shift-24"), ImageFinding(4, 1e-9, "shift-24"),
    ))  # fmt: skip
    verdict, results = verdict_of(row("none", leaking), row("fr"))
    assert (verdict.verdict, verdict.worst_attack) == ("leaks", "none")
    assert verdict.severity is not None
    assert verdict.severity.ci_low < verdict.severity.value == 0.4 < verdict.severity.ci_high
    assert (results["none"].verdict, results["none"].leaking_images) == ("leaks", [23, 4])
    assert results["none"].comparison == "dihedral-24"
    assert results["fr"].verdict != "leaks"


def test_an_attack_without_its_library_was_not_tried():
    error = {"code": "missing_dependency", "detail": "install unveil[torch]"}
    missing = row("simulated-pairs", status="not_applicable", error=error, result=None)
    verdict, _ = verdict_of(*(missing if name == "simulated-pairs" else row(name) for name in ALL))
    assert verdict.verdict == "inconclusive"
    assert [(n.attack, n.reason) for n in verdict.not_tried] == [
        ("simulated-pairs", "could not be run: install unveil[torch]")
    ]


def test_an_attack_that_turned_out_not_to_fit_uploaded_ciphertexts_is_not_missing():
    error = {"code": "not_applicable", "detail": "no key is consistent with the pairs"}
    required = catalog.required_attacks(None, "quick", originals=True, public=True, draws_keys=False)
    names = [attack.name for attack in required if attack.name != "known-plaintext"]
    unfit = row("known-plaintext", status="not_applicable", error=error, result=None, scheme=EXTERNAL)
    cells = [row(name, scheme=EXTERNAL) for name in names]
    verdict, _ = verdict_of(*cells, unfit)
    assert verdict.verdict == "no leak found"
    assert "known-plaintext" in verdict.covers
    planned, _ = verdict_of(*cells, row("known-plaintext", status="failed", result=None, scheme=EXTERNAL))
    assert planned.verdict == "inconclusive"


def test_a_result_stored_without_evidence_keeps_the_verdict_of_earlier_rules():
    earlier = row("none")
    earlier.result = make_result(0.95, verdict="broken").to_json()
    verdict, results = verdict_of(earlier, row("fr"))
    assert (verdict.verdict, verdict.worst_attack, verdict.rules_version) == ("broken", "none", 1)
    assert verdict.because.startswith("earlier rules")
    assert verdict.covers == ()
    assert results["none"].verdict == "broken"
