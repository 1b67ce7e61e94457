"""Results as JSON: what is stored is read back as itself, from this version and from others."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.factories import make_result
from unveil.models.core.cell_result import CellResult, Controls, UtilityResult
from unveil.models.core.json_record import JsonRecord
from unveil.models.core.verdict_rules.evidence import CellEvidence, ImageFinding, KeyEvidence, Rate

# As the version before stored it: absent fields are left out.
STORED: dict[str, Any] = {
    "ssim": {"mode": "rgb7", "mean": 0.1, "std": 0.02, "ci_low": 0.09, "ci_high": 0.11, "n": 24, "per_key": [0.1, 0.1]},
    "psnr": {"mean": 9.5, "std": 0.2, "ci_low": 9.4, "ci_high": 9.6, "n": 24},
    "identification": {
        "top1": 0.5, "chance": 0.04, "ci_low": 0.3, "ci_high": 0.7, "gallery": 24, "scale": 4, "above_chance": True,
    },
    "key_agreement": {"reversed": 0.98, "permutation": 1.0, "exact": False},
    "key_space_bits": None, "paper_ssim": 0.4646, "controls": {"positive": "passed", "negative": "failed"},
    "numbers": {"ciphertexts": 64}, "verdict": "leaks", "seconds": 1.9, "device": "cpu", "notes": ["a note"],
    "versions": {"unveil": "0.1.0", "torch": "2.11", "python": "3.11"},
}  # fmt: skip
UTILITY: dict[str, Any] = {
    "plain": {"top1": 0.9, "ci_low": 0.8, "ci_high": 0.95, "n": 16},
    "protected": {"top1": 0.8, "ci_low": 0.7, "ci_high": 0.9, "n": 16},
    "drop": {"points": 10.0, "ci_low": 1.0, "ci_high": 20.0}, "chance": 0.5, "classification": None,
    "training": {"available": True, "reason": "x"}, "testing": {"available": None, "reason": "y"},
    "cost": {"level": "Low", "images_per_second": 100.0, "parameters": None}, "classifier": {"width": 4},
    "seconds": 2.0, "device": "cpu", "notes": [],
}  # fmt: skip


def test_a_stored_result_is_read_as_typed_values_and_written_back_unchanged():
    result = CellResult.from_json(STORED)
    assert result.ssim.per_key == [0.1, 0.1]
    assert result.identification.gallery == 24
    assert result.controls == Controls(positive="passed", negative="failed")
    assert result.failed_controls == ["negative"]
    assert result.key_shares == {"reversed": 0.98, "permutation": 1.0}
    written = result.to_json()
    assert {name: written[name] for name in STORED if name not in ("psnr", "identification")} == {
        name: STORED[name] for name in STORED if name not in ("psnr", "identification")
    }
    assert written["psnr"] == {**STORED["psnr"], "per_key": None}
    assert CellResult.from_json(json.loads(json.dumps(written))) == result
    utility = UtilityResult.from_json(UTILITY)
    assert (utility.cost.level, utility.training.available) == ("Low", True)
    assert utility.to_json() == {**UTILITY, "hardware": None, "versions": None, "origin": None}


def test_evidence_is_read_back_as_typed_values():
    found = KeyEvidence((Rate("dihedral-24", 3, 60, 1 / 60),), 60, (ImageFinding(7, 1e-9, "shift-24"),), ssim=0.1)
    evidence = CellEvidence("fr", "ciphertext-only", {"L": 8}, "succeeded", keys=(found,), natural_looking=(1, 2))
    result = make_result(evidence=evidence)
    assert CellResult.from_json(json.loads(json.dumps(result.to_json()))) == result
    assert CellResult.from_json(STORED).evidence is None


def test_fields_of_a_later_version_are_kept_at_every_level():
    later = {**STORED, "fidelity": {"top1": 0.1}, "ssim": {**STORED["ssim"], "ambiguity": "mirror"}}
    written = CellResult.from_json(later).to_json()
    assert written["fidelity"] == {"top1": 0.1}
    assert written["ssim"]["ambiguity"] == "mirror"


def test_numbers_that_json_lacks_are_stored_as_null():
    written = make_result(numbers={"loss": float("inf"), "steps": 3}).to_json()
    assert written["numbers"] == {"loss": None, "steps": 3}


@dataclass(frozen=True)
class Event(JsonRecord):
    at: datetime


def test_times_are_written_as_the_api_writes_them():
    moment = datetime(2024, 5, 6, 7, 8, tzinfo=UTC)
    assert Event(moment).to_json() == {"at": "2024-05-06T07:08:00Z"}
    assert Event.from_json({"at": "2024-05-06T07:08:00Z"}) == Event(moment)
