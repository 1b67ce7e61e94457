"""Attacks ask what a scheme is: a scheme of a stranger gets the verdicts of the built-in that does the same."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.models.foreign_schemes import ColourMix, ColourMixSettings, NibbleBlocks
from unveil.models import catalog
from unveil.models.core.run_context import RunContext
from unveil.models.core.threat_models import Capability, ThreatModel
from unveil.models.data.sample import sample
from unveil.models.evaluation.cell import ScoringOptions, run_cell
from unveil.models.evaluation.classification_utility import classifier_for
from unveil.models.schemes.base import NoSettings

PAIRS = {
    "pixelwise same": (("pixelwise", {}), ColourMix(ColourMixSettings())),
    "pixelwise different": (("pixelwise", {"key_mode": "different"}), ColourMix(ColourMixSettings("yes"))),
    "tanaka": (("tanaka", {}), NibbleBlocks(NoSettings())),
}
ATTACKS = list(catalog.attacks())
OPTIONS = ScoringOptions(seed=0, keys=1, samples=0, profile="smoke")
WITHOUT_TRAINING = [name for name in ATTACKS if not catalog.make_attack(name, {}).trains_network()]


@pytest.mark.parametrize("built_in, foreign", PAIRS.values(), ids=PAIRS.keys())
@pytest.mark.parametrize("name", ATTACKS)
def test_the_same_attacks_apply(name, built_in, foreign):
    attack = catalog.make_attack(name, {})
    assert attack.not_applicable_reason(foreign) == attack.not_applicable_reason(catalog.make_scheme(*built_in))


@pytest.mark.parametrize("built_in, foreign", PAIRS.values(), ids=PAIRS.keys())
@pytest.mark.parametrize("name", WITHOUT_TRAINING)
def test_an_attack_that_trains_nothing_gives_the_same_verdict(name, built_in, foreign):
    settings = {"key-recovery": {"ciphertexts": 16, "curve": False}}.get(name, {})
    attack = catalog.make_attack(name, settings, "smoke")
    scheme = catalog.make_scheme(*built_in)
    if attack.not_applicable_reason(scheme):
        return
    data = sample().take(16, 16)
    ours = run_cell(scheme, attack, data, OPTIONS, RunContext()).result
    theirs = run_cell(foreign, attack, data, OPTIONS, RunContext()).result
    assert theirs.verdict == ours.verdict
    assert theirs.controls == ours.controls
    assert theirs.found_exact_key == ours.found_exact_key
    if ours.ssim is None:
        assert theirs.key_space_bits == pytest.approx(ours.key_space_bits, rel=1e-5)
    else:
        # each drew a key of its own
        assert theirs.ssim.mean == pytest.approx(ours.ssim.mean, abs=0.03)
        assert theirs.identification.above_chance == ours.identification.above_chance


@pytest.mark.parametrize("built_in, foreign", PAIRS.values(), ids=PAIRS.keys())
@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in WITHOUT_TRAINING])
def test_a_trained_attack_takes_the_same_network(name, built_in, foreign):
    attack = catalog.make_attack(name, {}, "smoke")
    data = replace(sample().take(8, 8), train=sample().train[:8, :48, :48], test=sample().test[:8, :48, :48])
    assert attack.control_cache_key(foreign) == attack.control_cache_key(catalog.make_scheme(*built_in))
    result = run_cell(foreign, attack, data, OPTIONS, RunContext()).result
    assert np.isfinite(result.ssim.mean)


@pytest.mark.parametrize("built_in, foreign", PAIRS.values(), ids=PAIRS.keys())
def test_utility_is_measured_by_the_same_classifier(built_in, foreign):
    assert classifier_for(foreign, "quick") == classifier_for(catalog.make_scheme(*built_in), "quick")


def test_no_attack_network_or_verdict_asks_for_the_class_or_name_of_a_scheme():
    classes = "|".join(cls.__name__ for cls in catalog.schemes().values())
    names = "|".join(map(re.escape, catalog.schemes()))
    forbidden = re.compile(
        rf"isinstance\([^)]*\b({classes}|NetworkScheme)\b|scheme\.name\s*(==|!=|in|not in)|"
        rf"(==|!=)\s*\"({names})\"|import.*\b({classes})\b"
    )
    root = Path(catalog.__file__).parent
    files = [root / "catalog.py"]
    for folder in ("attacks", "networks", "recovery", "evaluation", "metrics", "core"):
        files += (root / folder).rglob("*.py")
    files += (root.parent / "app" / "report").rglob("*.py")
    found = [
        f"{file.name}: {line.strip()}"
        for file in files
        for line in file.read_text().splitlines()
        if forbidden.search(line)
    ]
    assert not found


def test_a_threat_model_is_a_set_of_capabilities_with_a_name():
    assert [model.name for model in catalog.NAMED_THREAT_MODELS] == [
        "ciphertext-only", "+public images", "known-plaintext", "chosen-plaintext"
    ]  # fmt: skip
    assert ThreatModel.of(Capability.MODEL).name == "+model"
    assert ThreatModel.of(Capability.PAIRS, Capability.LABELS).name == "known-plaintext +labels"
    assert ThreatModel.of(Capability.PAIRS) == ThreatModel.KNOWN_PLAINTEXT
    assert Capability.CIPHERTEXTS in ThreatModel.CHOSEN_PLAINTEXT
