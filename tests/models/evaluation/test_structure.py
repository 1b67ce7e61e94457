"""Attacks ask what a scheme is: a scheme of a stranger gets the verdicts of the built-in that does the same."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.models.evaluation.verdict_cases import memoize
from tests.models.foreign_schemes import ColourMix, ColourMixSettings, NibbleBlocks
from unveil.models import catalog
from unveil.models.core.run_context import RunContext
from unveil.models.core.threat_models import Capability, ThreatModel
from unveil.models.data.sample import sample
from unveil.models.evaluation.cell import run_cell
from unveil.models.evaluation.scoring import ScoringOptions
from unveil.models.evaluation.utility_classifiers import classifier_for
from unveil.models.schemes.base import NoSettings
from unveil.models.schemes.pixelwise import ORDERS, Pixelwise, PixelwiseSettings
from unveil.models.schemes.tanaka import Tanaka, TanakaSettings


class SameColourMix(ColourMix):
    """Draws the map that pixelwise draws from a seed, in the form of its own key."""

    name = "acme/same-colour-mix"

    def derive(self, seed, height, width):
        key = Pixelwise(PixelwiseSettings()).derive(seed, height, width)
        orders = ORDERS[key.orders].astype(np.intp)
        code = (orders[:, :, None] == self.orders).all(-1).argmax(-1)
        flips = np.take_along_axis(key.reversed, orders, axis=2)
        return 8 * code + (flips << np.arange(3)).sum(-1)


class SameNibbleBlocks(NibbleBlocks):
    name = "acme/same-nibble-blocks"

    def derive(self, seed, height, width):
        key = Tanaka(TanakaSettings()).derive(seed, height, width)
        channel, column, row, half = np.unravel_index(np.arange(96), (3, 4, 4, 2))
        position = 48 * (half == 0) + 12 * row + 3 * column + channel
        source = key.permutation[position]
        return np.argsort(position)[source], key.reversed[source] * np.uint8(15)


PAIRS = {
    "pixelwise same": (Pixelwise(PixelwiseSettings()), SameColourMix(ColourMixSettings())),
    "pixelwise different": (Pixelwise(PixelwiseSettings("different")), SameColourMix(ColourMixSettings("yes"))),
    "tanaka": (Tanaka(TanakaSettings()), SameNibbleBlocks(NoSettings())),
}
pairs = pytest.mark.parametrize(("built_in", "foreign"), PAIRS.values(), ids=PAIRS.keys())
OPTIONS = ScoringOptions(seed=0, keys=1, samples=0, profile="smoke")
DATA = sample().take(16, 16)
DATA = replace(DATA, train=DATA.train[:, :48, :48], test=DATA.test[:, :48, :48])


@pairs
def test_the_foreign_scheme_is_the_same_function_by_other_means(built_in, foreign):
    secret = catalog.new_secret()
    protected = built_in.protect(DATA.test, secret)
    assert (foreign.protect(DATA.test, secret) == protected).all()
    assert type(foreign.key(secret, 48, 48)) is not type(built_in.key(secret, 48, 48))
    if not foreign.key_per_image:
        assert (foreign.decrypt(protected, foreign.key(secret, 48, 48)) == DATA.test).all()


@pairs
@pytest.mark.parametrize("name", catalog.attacks())
def test_every_attack_gives_the_result_of_the_built_in(name, built_in, foreign):
    attack = catalog.make_attack(name, {"key-recovery": {"ciphertexts": 16, "curve": False}}.get(name, {}), "smoke")
    reason = attack.not_applicable_reason(built_in)
    assert attack.not_applicable_reason(foreign) == reason
    if reason:
        return
    # As in an evaluation: what depends on the images and the network alone is computed once.
    context = RunContext(memoize=memoize)
    ours, theirs = (run_cell(scheme, attack, DATA, OPTIONS, context).result for scheme in (built_in, foreign))
    same = ("ssim", "psnr", "identification", "controls", "numbers", "verdict", "found_exact_key")
    assert {name: getattr(theirs, name) for name in same} == {name: getattr(ours, name) for name in same}
    assert theirs.key_space_bits == pytest.approx(ours.key_space_bits, rel=1e-5)


@pairs
def test_utility_is_measured_by_the_same_classifier(built_in, foreign):
    assert classifier_for(foreign, "quick") == classifier_for(built_in, "quick")


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
