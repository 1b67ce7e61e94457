"""A cipher of which Unveil knows nothing, as a callable and as an upload: structure decides the verdict."""

from dataclasses import replace

import numpy as np
import pytest

import unveil
from tests.models.attacks.homemade_ciphers import SOUND, WEAK
from tests.models.sample_images import photographs
from unveil.models import catalog
from unveil.models.core.run_context import RunContext
from unveil.models.data.image_dataset import ImageDataset
from unveil.models.evaluation.external_ciphertexts import run_external
from unveil.models.evaluation.scoring import ScoringOptions

IMAGES = photographs(50, 48, 48)
SMOKE = {"profile": "smoke", "progress": False}


def encrypt_by(ciphers, name):
    return ciphers[name].make(np.random.default_rng(3), 48, 48)


def test_an_audit_of_a_homemade_cipher_is_broken_by_structure():
    report = unveil.audit(encrypt_by(WEAK, "block-shuffle-xor"), IMAGES, attacks=["structure"], **SMOKE)
    assert report.verdict == "broken"
    assert "structure" in report.because
    result = report["structure"].result
    assert result.ssim.mean > 0.99
    assert result.controls.failed == []
    assert any("8x8 blocks are shuffled" in note for note in result.notes)
    assert result.numbers["pairs"] == 18


def test_structure_runs_right_after_the_ciphertexts_themselves():
    report = unveil.audit(
        encrypt_by(WEAK, "fixed-keystream"), IMAGES, attacks=["fr", "known-plaintext", "structure"], **SMOKE
    )
    assert report.attacks == ["none", "structure", "fr", "known-plaintext"]


def test_uploaded_ciphertexts_of_an_unknown_cipher_are_broken_by_structure():
    protected = encrypt_by(WEAK, "logistic-map")(IMAGES)
    labels = np.zeros(40, np.int64)
    data = ImageDataset(
        "upload", protected[:40], labels, protected[40:], labels[:10], ("all",), IMAGES[:40], IMAGES[40:]
    )
    attack = catalog.make_attack("structure", {}, "smoke")
    outcome = run_external(attack, data, ScoringOptions(samples=1), RunContext())
    assert outcome.result.verdict == "broken"
    assert outcome.result.evidence.effort.pairs == 40
    assert outcome.result.controls.failed == []
    needed = catalog.required_attacks(None, "smoke", originals=True, public=False, draws_keys=False)
    assert "structure" in [required.name for required in needed]
    without = replace(data, train_originals=None, test_originals=None)
    assert "pairs are needed" in catalog.external_not_applicable_reason(attack, originals=False, public=False)
    assert without.test_originals is None


@pytest.mark.parametrize("name", SOUND)
def test_structure_does_not_ask_about_a_cipher_with_a_key_for_each_image(name):
    report = unveil.audit(encrypt_by(SOUND, name), IMAGES, attacks=["none", "structure"], **SMOKE)
    assert report["structure"].status == "not_applicable"
    assert "every image has a key of its own" in report["structure"].reason
    assert report.verdict == "inconclusive"
