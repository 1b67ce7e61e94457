import itertools
from dataclasses import replace

import pytest

from tests.models.evaluation.verdict_cases import cell, cell_verdict_in_scheme, rates, verdict
from unveil.models.core.verdict_rules.coverage import RequiredAttack
from unveil.models.core.verdict_rules.evidence import CellEvidence, Effort, ImageFinding, KeyEvidence, Misplaced, Rate
from unveil.models.core.verdict_rules.rules import above_chance, cell_verdict
from unveil.models.core.verdict_rules.types import RULES_VERSION, CheapestBreak

NONE = RequiredAttack("none", "ciphertext-only")
FR = RequiredAttack(
    "fr",
    "ciphertext-only",
    {"L": 8, "b": 0, "nibblewise": False},
    {"L": "higher", "b": "neutral", "nibblewise": "neutral"},
)
ITN = RequiredAttack("itn", "known-plaintext", {"epochs": 10}, {"epochs": "higher"})
FR_SETTINGS = {"L": 8, "b": 0, "nibblewise": False}
FR_CELL = CellEvidence("fr", "ciphertext-only", FR_SETTINGS, "succeeded")
WEAK_FR = cell("fr", settings=FR_SETTINGS | {"L": 1})


def key(hits=1, images=500, **more):
    return KeyEvidence(**({"rates": rates(hits, images), "images_tested": images, "ssim": 0.02} | more))


def test_no_leak_found_needs_full_coverage_passed_controls_and_power():
    found = verdict(cell("none"), cell("fr", settings=FR_SETTINGS), required=(NONE, FR))
    assert found.verdict == "no leak found"
    assert "at most 1.1 % of images can be identified" in found.because
    assert found.worst_attack is None


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([cell("none")], "not run: fr (not requested)"),
        ([cell("none"), WEAK_FR], "weaker than the profile: fr (L=1, the profile has 8)"),
        ([cell("none"), replace(FR_CELL, status="failed", reason="no memory")], "fr (failed: no memory)"),
        (
            [replace(each, status="failed", reason="no memory") for each in (cell("none"), FR_CELL)],
            "not run: none, fr (failed: no memory)",
        ),
        ([cell("none"), replace(FR_CELL, status="running")], "attacks are still running"),
        (
            [cell("none"), cell("fr", settings=FR_SETTINGS, controls={"positive": "failed", "negative": "passed"})],
            "the positive control of fr failed",
        ),
    ],
)  # fmt: skip
def test_an_attack_that_is_missing_weakened_or_out_of_order_is_named(cells, words):
    found = verdict(*cells, required=(NONE, FR))
    assert found.verdict == "inconclusive"
    assert words in found.because


def test_only_the_full_set_of_attacks_reaches_no_leak_found():
    settings = {"none": {}, "fr": FR_SETTINGS, "itn": {"epochs": 10}}
    models = {"none": "ciphertext-only", "fr": "ciphertext-only", "itn": "known-plaintext"}
    cells = [cell(name, settings=settings[name], model=models[name]) for name in settings]
    for count in range(4):
        for chosen in itertools.combinations(cells, count):
            found = verdict(*chosen, required=(NONE, FR, ITN), material=("ciphertext-only", "known-plaintext"))
            assert (found.verdict == "no leak found") == (count == 3), [c.attack for c in chosen]


def test_brute_force_and_a_weak_fr_are_no_evidence():
    bits = CellEvidence("brute-force", "ciphertext-only", {}, "succeeded", effective_bits=256)
    weak = cell("fr", settings=FR_SETTINGS | {"L": 1})
    found = verdict(bits, weak, required=(NONE, FR, RequiredAttack("brute-force", "ciphertext-only")))
    assert found.verdict == "inconclusive"
    assert [note.attack for note in found.not_tried] == ["none"]
    assert [note.attack for note in found.weakened] == ["fr"]
    assert [note.attack for note in found.tried] == ["brute-force"]


def test_nothing_run_at_all_is_inconclusive():
    assert verdict(required=()).verdict == "inconclusive"
    assert "no attack was run" in verdict(required=()).because


def test_five_of_six_keys_found_is_broken_with_the_share():
    keys = [key(ssim=1.0, key_exact=True, hits=500)] * 5 + [key(key_exact=False)]
    found = verdict(cell("key-recovery", *keys, effort=Effort(ciphertexts=64, seconds=2.0)), required=())
    assert found.verdict == "broken"
    assert found.because == "key-recovery found the exact key from 64 ciphertexts for 5 of 6 keys"
    assert found.severity.kind == "key"
    assert found.severity.value == pytest.approx(5 / 6)
    assert found.cheapest_break == CheapestBreak("key-recovery", 64, None, None, 2.0)


def test_one_of_three_keys_that_shows_the_images_is_broken():
    keys = [key(ssim=0.2), key(ssim=0.95, ssim_interval=(0.94, 0.96)), key(ssim=0.2)]
    found = verdict(cell("itn", *keys, ambiguity="mirror"), required=())
    assert found.verdict == "broken"
    assert found.because == "itn shows the images at SSIM 0.95, up to a mirror for 1 of 3 keys"
    assert found.severity.to_json() == {"kind": "ssim", "value": 0.95, "ci_low": 0.94, "ci_high": 0.96, "images": 500}


def test_images_that_an_attack_makes_of_noise_are_no_break():
    failed = {"positive": "passed", "negative": "failed"}
    found = verdict(cell("gan", key(ssim=0.97), controls=failed), required=())
    assert found.verdict == "inconclusive"
    assert verdict(cell("gan", key(ssim=0.97, key_exact=True), controls=failed), required=()).verdict == "broken"


def test_few_keys_are_broken():
    bits = CellEvidence("brute-force", "ciphertext-only", {}, "succeeded", effective_bits=32)
    assert verdict(bits, required=()).because == "only 2^32 keys: an exhaustive search is feasible"


def test_the_same_effect_has_the_same_severity_whatever_the_number_of_images():
    few = verdict(cell("none", key(3, 61), images=61))
    many = verdict(cell("none", key(25, 500)))
    assert (few.verdict, many.verdict) == ("inconclusive", "leaks")
    assert few.severity.kind == many.severity.kind == "identification"
    assert few.severity.value == pytest.approx(0.05, abs=0.001)
    assert many.severity.value == pytest.approx(0.05, abs=0.001)
    assert few.severity.ci_low < many.severity.ci_low < many.severity.ci_high < few.severity.ci_high
    assert "61 images cannot exclude that 12 % can be identified" in few.because
    assert "5.0 % of images to be identified among 500 (chance 0.2 %), by dihedral-24" in many.because


def test_two_percent_of_500_leak():
    found = verdict(cell("none", key(10)))
    assert found.verdict == "leaks"
    assert found.severity.value == 0.02


def test_the_error_is_shared_by_all_attacks_comparisons_keys_and_images():
    six = verdict(cell("none", key(6)))
    assert six.verdict == "leaks"
    others = [cell(f"attack-{n}", *[key(1)] * 3) for n in range(20)]
    assert verdict(cell("none", key(6)), *others).verdict != "leaks"
    image = key(findings=(ImageFinding(17, 8e-6, "shift-24"),))
    assert verdict(cell("none", image)).verdict == "leaks"
    assert verdict(cell("none", image), *others).verdict != "leaks"


def test_a_leaking_image_is_shown_first():
    leaking = cell("none", key(12, findings=(ImageFinding(23, 1e-12, "shift-24"), ImageFinding(4, 1e-9, "shift-24"))))
    found = verdict(leaking)
    assert found.because.startswith("the unattacked ciphertexts show 2 of 500 images recognizably: 23, 4; ")
    assert cell_verdict_in_scheme(leaking).leaking_images == (23, 4)


@pytest.mark.parametrize(("p_value", "leaking"), [(1.2516e-5, (0, 1)), (1.2532e-5, (0,))])
def test_holm_rejects_what_bonferroni_would_not(p_value, leaking):
    assert p_value > 0.005 / 400  # half of 1 %, 400 images
    findings = (ImageFinding(0, 1e-9, "shift-24"), ImageFinding(1, p_value, "shift-24"))
    found = cell_verdict_in_scheme(cell("none", key(images=400, findings=findings), images=400))
    assert found.leaking_images == leaking


def test_originals_that_do_not_match_are_inconclusive_and_beside_a_leak_a_warning():
    wrong = (Misplaced(3, 4, 1e-9, "dihedral-24"),)
    found = verdict(cell("none", key(misplaced=wrong)))
    assert found.because.startswith("originals do not match: 1 image shows another original (image 3 shows 4)")
    both = verdict(cell("none", key(50, misplaced=wrong)))
    assert both.verdict == "leaks"
    assert both.because.endswith("originals do not match: 1 image shows another original (image 3 shows 4)")
    assert "constant offset" in verdict(cell("none", key(order_p_value=1e-9))).because


def test_threat_models_are_covered_by_material_and_others_not_claimed():
    cells = [cell("none"), cell("itn", key(40), settings={"epochs": 10}, model="known-plaintext")]
    found = verdict(*cells, required=(NONE, ITN), material=("ciphertext-only", "known-plaintext", "chosen-plaintext"))
    assert found.covers == ("ciphertext-only", "known-plaintext")
    assert found.by_threat_model["ciphertext-only"].verdict == "no leak found"
    assert found.by_threat_model["known-plaintext"].verdict == "leaks"
    assert found.verdict == "leaks"
    reasons = {note.threat_model: note.reason for note in found.not_claimed}
    assert reasons["chosen-plaintext"] == "no attack of the profile applies"
    assert reasons["+public images"] == "no material given"


def test_the_weakest_threat_model_names_the_break():
    cells = [
        cell("chosen-plaintext", key(500, key_exact=True), model="chosen-plaintext", effort=Effort(queries=1)),
        cell("key-recovery", key(500, key_exact=True), effort=Effort(ciphertexts=64)),
    ]
    found = verdict(*cells, required=())
    assert found.worst_attack == "key-recovery"
    assert found.cheapest_break.attack == "key-recovery"


def test_linkage_counts_like_identification():
    linked = key(linkage=Rate("linkage", 60, 500, 1 / 500))
    found = verdict(cell("linkage", linked, model="+public images"), required=())
    assert found.severity.kind == "linkage"
    assert "12 % of images to be linked to their originals" in found.because


def test_a_gallery_too_small_for_power_is_inconclusive():
    found = verdict(cell("none", key(1, 10), images=10))
    assert "effective gallery of 10: 10 images are too few to tell originals apart" in found.because


def test_a_cell_alone_shares_the_error_with_the_cells_planned():
    borderline = cell("none", key(6))
    assert cell_verdict(borderline, 1).verdict == "leaks"
    assert cell_verdict(borderline, 30).verdict != "leaks"
    assert cell_verdict(CellEvidence("fr", "ciphertext-only", {}, "running"), 1).verdict == "inconclusive"


def test_the_answer_has_the_fields_of_the_contract():
    answer = verdict(cell("none"), cell("fr", settings=FR_SETTINGS | {"L": 4}), required=(NONE, FR)).to_json()
    assert set(answer) == {
        "verdict", "because", "worst_attack", "tried", "not_tried", "weakened", "covers", "by_threat_model",
        "rules_version", "severity", "cheapest_break", "power", "not_claimed",
    }  # fmt: skip
    assert answer["rules_version"] == RULES_VERSION
    assert set(answer["power"]) == {"upper_bound", "chance", "gallery", "effective_gallery", "images"}
    assert set(answer["severity"]) == {"kind", "value", "ci_low", "ci_high", "images"}
    assert answer["weakened"] == [
        {"attack": "fr", "threat_model": "ciphertext-only", "reason": "L=4, the profile has 8"}
    ]


def test_a_stored_verdict_is_recomputed_from_stored_evidence():
    import json

    cells = (
        cell("none", key(40, findings=(ImageFinding(7, 1e-9, "shift-24"),), misplaced=(Misplaced(1, 2, 1e-3, "x"),))),
        cell("itn", key(linkage=Rate("linkage", 3, 500, 0.002), ssim_interval=(0.1, 0.2)), effort=Effort(pairs=4)),
    )
    stored = json.loads(json.dumps([c.to_json() for c in cells]))
    restored = tuple(CellEvidence.from_json(one) for one in stored)
    assert restored == cells
    assert verdict(*restored).to_json() == verdict(*cells).to_json()
    assert all(one.is_current for one in restored)
    assert not CellEvidence.from_json(stored[0] | {"version": 0}).is_current


def test_order_of_cells_does_not_matter():
    cells = [
        cell("none", key(40)),
        cell("fr", key(30), settings=FR_SETTINGS),
        cell("itn", key(3), model="known-plaintext"),
    ]
    answers = [verdict(*order) for order in itertools.permutations(cells)]
    assert all(answer.because == answers[0].because for answer in answers)


@pytest.mark.parametrize(
    ("shown", "above"),
    [
        (key(1), False),
        (key(5), False),
        (key(12), True),
        (key(findings=(ImageFinding(0, 1e-7, "shift-24"),)), True),
        (key(findings=(ImageFinding(0, 1e-5, "shift-24"),)), False),
        (KeyEvidence(), False),
    ],
)
def test_above_chance_holds_for_rates_and_for_single_images(shown, above):
    assert above_chance(shown, 0.001) == above
