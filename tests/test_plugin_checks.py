"""`unveil.testing`: built-ins pass, and a class that does not keep its word fails with the reason."""

import contextlib
import subprocess
import sys

import numpy as np
import pytest

from tests.models.foreign_schemes import ColourMix, NibbleBlocks
from tests.models.sample_images import photographs
from unveil.models import catalog
from unveil.models.catalog import make_attack
from unveil.models.core.structure import BlockMap, PixelMap
from unveil.models.data.sample import sample
from unveil.models.evaluation.cell import run_cell
from unveil.models.evaluation.scoring import ScoringOptions
from unveil.models.metrics.base import Metric
from unveil.plugins import Attack, AttackResult, CiphertextFormat, RunContext, Scheme, ThreatModel, scheme
from unveil.testing import SECRET, CheckFailed, check_attack, check_metric, check_scheme, main

KEYED = [cls for cls in catalog.schemes().values() if not cls.trains]
QUICK = [
    cls
    for name, cls in catalog.attacks().items()
    if not cls.learning_based and name not in ("key-recovery", "second-order", "gan")
]


@pytest.mark.parametrize("cls", [*KEYED, ColourMix, NibbleBlocks], ids=lambda cls: cls.name)
def test_schemes_keep_the_contract(cls):
    assert len(check_scheme(cls)) >= 7


@pytest.mark.parametrize("cls", QUICK, ids=lambda cls: cls.name)
def test_attacks_keep_the_contract(cls):
    assert check_attack(cls)


class Shift(Scheme):
    name = "acme/shift"

    def derive(self, seed, height, width):
        return np.uint8(seed[0] + 1)

    def encrypt(self, images, key):
        return images + key


def change(**members):
    return type("Changed", (Shift,), {"name": "acme/changed", **members})


SMOKE = ScoringOptions(seed=0, keys=1, samples=0, profile="smoke")
GENERATOR = np.random.default_rng(0)
LIES = {
    "declares invertible": (change(invertible=True), "cannot decrypt"),
    "decrypts almost": (change(decrypt=lambda self, images, key: images - key ^ (images == 7)), "% of the values"),
    "declares a structure": (change(structure=PixelMap()), "the scheme does what it declares: PixelMap()"),
    "declares another map": (
        type("Other", (ColourMix,), {"name": "acme/other", "structure": BlockMap(4, "nibble"), "size_multiple": 4}),
        "attacks rely on the declaration",
    ),
    "declares a key an image": (change(key_per_image=True, protect=lambda self, images, *_: images + 1), "per_image"),
    "returns floats": (change(encrypt=lambda self, images, key: images / 255), "returns uint8"),
    "changes the shape": (change(encrypt=lambda self, images, key: images[:, ::2]), "a client receives"),
    "writes into its input": (
        change(encrypt=lambda self, images, key: np.add(images, key, out=images)), "leaves its input unchanged"
    ),
    "draws at random": (
        change(encrypt=lambda self, images, key: images + GENERATOR.integers(9, size=images.shape, dtype=np.uint8)),
        "the same secret gives the same ciphertext",
    ),
    "ignores the key": (change(encrypt=lambda self, images, key: 255 - images), "another secret"),
    "depends on its neighbours": (
        change(encrypt=lambda self, images, key: images + key + np.uint8(len(images))), "in every slice"
    ),
    "is for a newer version": (change(api_version=2), "expected: api_version at most 1\n  got: 2"),
    "states an odd version": (change(api_version="two"), "expected: api_version at most 1\n  got: two"),
    "takes no settings": (change(__init__=lambda self: None), "declarations\n  raised TypeError: "),
    "takes a built-in's name": (change(name="tanaka"), "must have the form vendor/name"),
}  # fmt: skip


@pytest.mark.parametrize(("cls", "reason"), LIES.values(), ids=LIES.keys())
def test_a_scheme_that_breaks_its_word_fails_with_the_reason(cls, reason):
    with pytest.raises(CheckFailed) as caught:
        check_scheme(cls)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import torch", "line 1 imports torch at module level"),
        ("x = (", "SyntaxError: '(' was never closed"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_reported(source, message, tmp_path, capsys):
    (tmp_path / "plugin.py").write_text(source)
    assert main(str(tmp_path / "plugin.py")) == 2
    assert f"plugin.py cannot be loaded: {message}" in capsys.readouterr().err.replace("Rejected: ", "")


def test_a_scheme_of_functions():
    mask = scheme("acme/mask", encrypt=lambda images, seed: images ^ np.uint8(seed[5] | 1))
    assert not mask(mask.Settings()).invertible
    wrong = scheme("acme/wrong", encrypt=lambda x, seed: x ^ np.uint8(seed[5] | 1), decrypt=lambda x, seed: x)
    assert check_scheme(mask)
    with pytest.raises(CheckFailed, match="decrypt"):
        check_scheme(wrong)


class Signed(Shift):
    """Returns floats: the value times the sign of a secret bit."""

    name = "acme/signed"
    ciphertext = CiphertextFormat("float32", -1, 1)

    def encrypt(self, images, key):
        return ((images / np.float32(127.5) - 1) * (1 if key % 2 else -1)).astype(np.float32)


class Bytes(Shift):
    """Returns one long row for each image of 96x96, and says how to look at it."""

    name = "acme/bytes"
    size_multiple = 96
    ciphertext = CiphertextFormat("uint16", 0, 510, shape=(96 * 96 * 3,))

    def encrypt(self, images, key):
        return images.reshape(len(images), 96 * 96 * 3).astype(np.uint16) + np.uint16(key)

    def view(self, ciphertexts, shape):
        return (ciphertexts // 2).astype(np.uint8).reshape(shape)


def test_a_ciphertext_need_not_be_an_8_bit_image():
    assert check_scheme(Signed)
    assert check_scheme(Bytes)
    plain = photographs(2)
    protected = Signed(Signed.Settings()).protect(plain, SECRET)
    assert protected.dtype == np.uint8
    assert (protected == plain).all() or (protected == 255 - plain).all()
    result = run_cell(Signed(Signed.Settings()), make_attack("none", {}), sample().take(8, 8), SMOKE, RunContext())
    assert result.result.identification.top1 == 1
    with pytest.raises(CheckFailed, match="values from -1 to 1"):
        check_scheme(type("Wide", (Signed,), {"encrypt": lambda self, images, key: images.astype(np.float32)}))
    with pytest.raises(CheckFailed, match="need a `view`"):
        check_scheme(type("Blind", (Bytes,), {"view": Scheme.view}))


class Sign(Attack):
    """Undoes `Signed`, whose floats it takes: the scale is left, and of the sign the more natural one."""

    name = "acme/sign"
    threat_model = ThreatModel.CIPHERTEXT_ONLY
    takes = "ciphertext"

    def not_applicable_reason(self, scheme):
        form = scheme.ciphertext
        return None if form.dtype == "float32" and form.shape is None else "needs images of signed numbers"

    def run(self, attack_input, context):
        context.report(0.5, "reading the sign")
        assert attack_input.targets.dtype == np.float32
        assert attack_input.images.dtype == np.uint8
        form, targets = attack_input.scheme.ciphertext, attack_input.targets
        return AttackResult(np.round((targets - form.low) * 255 / (form.high - form.low)).astype(np.uint8))


def test_an_attack_may_take_ciphertexts_instead_of_8_bit_views():
    assert check_attack(Sign)
    signed = Signed(Signed.Settings())
    result = run_cell(signed, Sign(Sign.Settings()), sample().take(8, 8), SMOKE, RunContext()).result
    assert result.identification.top1 == 1
    assert result.controls.positive == result.controls.negative == "passed"
    wrong = type("Wrong", (Signed,), {"from_view": lambda self, images: images})
    with pytest.raises(CheckFailed, match="`from_view` returns float32"):
        check_scheme(wrong)
    with pytest.raises(ValueError, match="needs a `from_view`"):
        Bytes(Bytes.Settings()).from_view(photographs(1))


class Guess(Attack):
    name = "acme/guess"
    threat_model = ThreatModel.CIPHERTEXT_ONLY

    def not_applicable_reason(self, scheme):
        return None if scheme.name == "pixelwise" else "one scheme is enough for this test"

    def run(self, attack_input, context):
        context.report(0.5, "guessing")
        return AttackResult(reconstructed=255 - attack_input.targets)


def swallow(self, attack_input, context):
    with contextlib.suppress(BaseException):
        context.report(0.5, "guessing")
    return AttackResult(reconstructed=attack_input.targets)


def overwrite(self, attack_input, context):
    attack_input.targets[:] = 0
    return AttackResult(reconstructed=attack_input.targets.copy())


ATTACK_LIES = {
    "writes": (overwrite, "leaves its input unchanged"),
    "swallows the cancellation": (swallow, "it was swallowed"),
    "crops": (
        lambda self, attack_input, context: AttackResult(attack_input.targets[:, 1:]),
        "an image for each target",
    ),
    "repeats nothing": (
        lambda self, attack_input, context: AttackResult(
            GENERATOR.integers(0, 9, attack_input.targets.shape, np.uint8)
        ),
        "the same seed",
    ),
}


def test_attacks_that_break_their_word_fail_with_the_reason():
    assert check_attack(Guess)
    for run, reason in ATTACK_LIES.values():
        with pytest.raises(CheckFailed, match=reason):
            check_attack(type("Changed", (Guess,), {"run": run}))


class MeanError(Metric):
    name = "acme/mean-error"
    higher_is_better = False

    def compute(self, originals, reconstructed):
        return np.abs(originals.astype(float) - reconstructed).mean((1, 2, 3))


def test_metrics():
    assert check_metric(MeanError)
    for members, reason in (
        ({"higher_is_better": True}, "scores better than noise"),
        ({"compute": lambda self, a, b: np.float64(1)}, "6 finite numbers"),
        (
            {"compute": lambda self, a, b: MeanError.compute(self, a, b) + np.arange(len(a))},
            "depends on no other image",
        ),
    ):
        with pytest.raises(CheckFailed, match=reason):
            check_metric(type("Changed", (MeanError,), members))


def run(*words, cwd):
    return subprocess.run([sys.executable, "-m", *words], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_new_package_passes_at_once_as_command_and_with_pytest(tmp_path):
    def unveil(*words):
        code = f"import sys; sys.argv = {['unveil', *words]!r}; from unveil.app.cli import main; main()"
        return subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert unveil("plugins", "new", "acme/my-cipher").returncode == 0
    source = tmp_path / "my-cipher" / "my_cipher.py"
    assert len(source.read_text().splitlines()) <= 45
    checked = unveil("plugins", "check", str(source))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "passed acme/my-cipher" in checked.stdout
    again = unveil("plugins", "new", "acme/my-cipher")
    assert again.returncode == 2
    assert "already exists" in again.stderr
    assert "vendor/name" in unveil("plugins", "new", "mine").stderr
    outcome = run(
        "pytest", "-q", "-p", "unveil.testing", "--unveil-plugin", str(source), "-p", "no:cacheprovider", cwd=tmp_path
    )
    assert outcome.returncode == 0, outcome.stdout
    assert "7 passed" in outcome.stdout
