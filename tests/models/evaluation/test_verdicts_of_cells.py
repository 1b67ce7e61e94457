"""Cells of `run_cell` and their evidence: what they contain, and the verdicts that follow."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.models.evaluation.test_cell import RecordingAttack
from tests.models.evaluation.verdict_cases import external_result, memoize, noise, photographs, upload, verdict
from unveil.models import catalog
from unveil.models.attacks import key_recovery
from unveil.models.attacks.base import AttackResult
from unveil.models.core.run_context import RunContext
from unveil.models.core.threat_models import ThreatModel
from unveil.models.core.verdict_rules.coverage import RequiredAttack
from unveil.models.core.verdict_rules.evidence import CellEvidence
from unveil.models.data.sample import sample
from unveil.models.evaluation.cell import run_cell
from unveil.models.evaluation.external_ciphertexts import candidate_schemes
from unveil.models.evaluation.scoring import ScoringOptions
from unveil.models.schemes.base import seed_secret

DATA = sample().take(40, 24)
SECRET = seed_secret(bytes(range(32)))
SMOKE = ScoringOptions(profile="smoke", keys=2, samples=5)
FR = RequiredAttack("fr", "ciphertext-only", {"L": 8}, {"L": "higher"})
NONE = RequiredAttack("none", "ciphertext-only")


def run(attack, scheme="pixelwise", options=SMOKE, data=DATA, context=None, secret=None, **settings):
    attack = catalog.make_attack(attack, {}) if isinstance(attack, str) else attack
    context = context or RunContext(memoize=memoize)
    return run_cell(catalog.make_scheme(scheme, settings), attack, data, options, context, secret=secret)


def test_missing_and_weakened_attacks_are_named():
    originals = photographs()
    weak = external_result(originals, noise(originals), "fr", L=1).evidence
    found = verdict(weak, required=(NONE, FR))
    assert found.verdict == "inconclusive"
    assert "not run: none (not requested)" in found.because
    assert "weaker than the profile: fr (L=1, the profile has 8)" in found.because


def test_different_keys_leak_to_a_weak_attack_and_the_verdict_names_the_attacks_left_out():
    weak = run(catalog.make_attack("fr", {"L": 1}), key_mode="different").result
    counted = run("brute-force", key_mode="different").result
    found = verdict(weak.evidence, counted.evidence, required=(NONE, FR))
    assert found.verdict == "leaks"  # the magnitudes of each pixel stay in place, which histograms show
    assert [note.attack for note in found.not_tried] == ["none"]
    assert [note.attack for note in found.weakened] == ["fr"]


class MostKeys(catalog.attacks()["known-plaintext"]):
    """Finds the keys of all runs but the second."""

    runs = 0

    def run(self, attack_input, context):
        self.runs += 1
        result = super().run(attack_input, context)
        return replace(result, key=replace(result.key, reversed=~result.key.reversed)) if self.runs == 2 else result


def test_the_share_of_keys_that_are_found_exactly_is_stated():
    attack = MostKeys(catalog.make_attack("known-plaintext", {}).settings)
    found = run(attack, options=replace(SMOKE, keys=6)).result
    assert found.key_agreement["exact"] is False
    assert [key.key_exact for key in found.evidence.keys] == [True, False, True, True, True, True]
    assert found.verdict == "broken"
    scheme = verdict(found.evidence)
    assert "found the exact key from 4 pairs for 5 of 6 keys" in scheme.because
    assert (scheme.severity.kind, scheme.severity.value, scheme.severity.images) == ("key", 5 / 6, 6)


@pytest.mark.parametrize("attack", ["known-plaintext", "chosen-plaintext"])
def test_a_solved_map_of_values_is_the_key_of_the_scheme(attack):
    found = run(attack, "vit-permutation", negative_positive=True).result
    assert found.key_agreement == {"blocks": 1, "values": 1, "reversed": 1, "exact": True}
    assert [key.key_exact for key in found.evidence.keys] == [True, True]
    scheme = verdict(found.evidence)
    assert f"{attack} found the exact key from" in scheme.because
    assert (scheme.verdict, scheme.severity.kind, scheme.severity.value) == ("broken", "key", 1)


class MirrorAttack(RecordingAttack):
    """Decrypts, and does not know left from right."""

    def __init__(self, decrypt):
        super().__init__()
        self.decrypt = decrypt

    def run(self, attack_input, context):
        mirrored = np.ascontiguousarray(self.decrypt(attack_input.targets)[:, :, ::-1])
        return AttackResult(mirrored, ambiguity="mirror")


def test_an_attack_that_leaves_the_mirror_image_open_is_scored_in_the_best_case():
    scheme, secret = catalog.make_scheme("tanaka", {}), SECRET
    attack = MirrorAttack(lambda images: scheme.decrypt(images, scheme.key(secret, 96, 96)))
    outcome = run(attack, "tanaka", secret=secret)
    assert outcome.result.ssim.mean == 1
    assert (outcome.result.ambiguity, outcome.result.verdict) == ("mirror", "broken")
    assert "scored after the reconstructions were mirrored" in outcome.result.notes
    assert (outcome.samples[0].reconstructed == outcome.samples[0].plain).all()
    assert ", up to a mirror" in verdict(outcome.result.evidence).because


def test_a_result_names_its_material_its_images_and_its_comparison():
    result = run("known-plaintext").result
    assert result.capabilities == ["ciphertexts", "pairs"]
    assert result.dataset_sha256 == DATA.sha256
    assert result.originals_sha256 is None
    assert result.comparison == result.identification.comparison
    assert result.evidence.settings == {"pairs": 4}
    assert result.evidence.effort.pairs == 4
    assert len(result.leaking_images) == 24
    originals = photographs()[:30]
    uploaded = external_result(originals, noise(originals))
    dataset = upload(originals, noise(originals))
    assert (uploaded.dataset_sha256, uploaded.originals_sha256) == (dataset.sha256, dataset.originals_sha256)
    assert uploaded.originals_sha256


def test_unused_test_images_are_distractors():
    result = run("none", options=replace(SMOKE, keys=1), data=sample()).result
    assert result.ssim.n == 32
    assert result.identification.gallery == 61
    assert result.identification.chance < 1 / 50


def test_leaking_images_are_shown_first():
    scheme = catalog.make_scheme("tanaka", {})
    protected = scheme.protect(photographs(), SECRET)
    protected[[7, 20]] = photographs()[[7, 20]]
    result = external_result(photographs(), protected)
    assert {7, 20} <= set(result.leaking_images)
    outcome = run("none", data=replace(DATA, test=DATA.test))
    leaking = outcome.result.leaking_images
    assert [sample.index for sample in outcome.samples[: len(leaking[:2])]] == leaking[:2]


class ContextAttack(RecordingAttack):
    def run(self, attack_input, context):
        self.contexts = [*getattr(self, "contexts", []), context]
        return super().run(attack_input, context)


def test_the_first_key_alone_computes_a_curve_and_controls_none():
    attack = ContextAttack()
    run(attack)
    assert [context.ablation for context in attack.contexts] == [True, False, False, False]


def test_key_recovery_of_three_keys_recovers_once_more_for_each_key_and_control(monkeypatch: pytest.MonkeyPatch):
    counts, found = list[int](), list[object]()
    recover_map = key_recovery.recover_map

    def count(structure, ciphertexts, *others):
        counts.append(len(ciphertexts))
        if not found:  # one recovery stands for all: only their number counts here
            found.append(recover_map(structure, ciphertexts, *others))
        return found[0]

    monkeypatch.setattr(key_recovery, "recover_map", count)
    recovery = catalog.make_attack("key-recovery", {"ciphertexts": 4})
    scheme = catalog.make_scheme("tanaka", {})
    outcome = run_cell(scheme, recovery, DATA, replace(SMOKE, keys=3), RunContext())
    assert counts == [4, 1, 2, 4, 4, 4, 4], "the verdict's recovery, its curve, two keys, two controls"
    assert [x for x, _ in outcome.curves["ssim_by_ciphertexts"]] == [1, 2, 4]


def test_the_curve_of_key_recovery_is_left_out_where_none_is_wanted():
    recovery = catalog.make_attack("key-recovery", {"ciphertexts": 4})
    scheme = catalog.make_scheme("pixelwise", {})
    attack_input = RecordingAttack(ciphertext_count=4)
    run_cell(scheme, attack_input, DATA, SMOKE, RunContext())
    assert recovery.run(attack_input.inputs[0], RunContext(ablation=False)).ablation == ()
    assert len(recovery.run(attack_input.inputs[0], RunContext()).ablation) == 3


def test_images_that_do_not_show_which_way_up_they_are_are_scored_in_the_best_rotation():
    recovery = catalog.make_attack("key-recovery", {"ciphertexts": 16, "curve": False})
    outcome = run(recovery, scheme="etc", data=DATA, options=replace(SMOKE, keys=1))
    assert outcome.result.ambiguity == "rotation"
    assert any("too uncertain" in note for note in outcome.result.notes)
    assert outcome.result.ssim.mean > 0.99
    assert outcome.result.verdict == "broken"


def test_a_learned_attack_is_checked_on_pairs_that_its_network_did_not_see():
    class Learned(RecordingAttack):
        learning_based = True

    attack = Learned(ThreatModel.KNOWN_PLAINTEXT, ciphertext_count=None)
    result = run(attack, options=replace(SMOKE, keys=1)).result
    _, positive, negative = attack.inputs
    assert (positive.targets == 255 - DATA.train[-8:]).all()
    assert (positive.pairs.plain == DATA.train[:-8]).all()
    assert len(negative.pairs.plain) == len(DATA.train)
    assert len(negative.targets) > len(DATA.test)  # enough similarities for the p-values of single images
    assert result.controls.negative == "passed"


def test_every_scheme_that_uploaded_ciphertexts_are_attacked_as_counts_as_a_test():
    originals = photographs()[:30]
    protected = catalog.make_scheme("pixelwise", {}).protect(originals, SECRET)
    result = external_result(originals, protected, "key-recovery", ciphertexts=8, curve=False)
    attack = catalog.make_attack("key-recovery", {})
    # Block-wise FFX recognises that the ciphertexts are not its own and fails, so it has no scores to test.
    assert len(result.evidence.keys) == len(candidate_schemes(attack, 96, 96)) - 1 > 1
    assert [key.ssim is None for key in result.evidence.keys] == [False] + [True] * (len(result.evidence.keys) - 1)
    assert result.identification.per_key is None
    assert result.verdict == "broken"


STORED = Path(__file__).parent / "aes_ctr_500.json"  # evidence of `none` and `fr` on 500 images under AES-CTR


def test_only_the_full_set_of_stored_results_on_a_sound_cipher_shows_no_leak():
    cells = [CellEvidence.from_json(stored) for stored in json.loads(STORED.read_text())]
    required = [RequiredAttack(cell.attack, cell.threat_model, cell.settings) for cell in cells]
    material = {cell.threat_model for cell in cells}
    for count in range(len(cells) + 1):
        for chosen in itertools.combinations(cells, count):
            found = verdict(*chosen, required=required, material=tuple(material))
            assert (found.verdict == "no leak found") == (len(chosen) == len(cells)), found.because
