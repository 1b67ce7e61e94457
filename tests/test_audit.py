"""`unveil.audit` as its users call it: a function and images in, a verdict out."""

import json
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import unveil
from tests.models.sample_images import photographs
from unveil.models.attacks.fr import FeatureReconstruction, FrSettings
from unveil.models.catalog import make_scheme
from unveil.models.core.errors import Cancelled
from unveil.models.evaluation import scheme_audit
from unveil.models.schemes.base import seed_secret
from unveil.models.schemes.tanaka import Tanaka

IMAGES = photographs(50, 48, 48)
QUICK = {"profile": "smoke", "progress": False}


def negative(images):
    return 255 - images


@pytest.fixture(scope="module")
def report():
    attacks = ["none", "fr", "chosen-plaintext", "brute-force"]
    return unveil.audit(negative, IMAGES, attacks=attacks, **QUICK)


def _python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_unveil_loads_no_torch_no_numpy_and_no_server():
    code = "import sys, unveil; print(sorted({'torch', 'fastapi', 'celery', 'sqlalchemy', 'numpy'} & set(sys.modules)))"
    assert _python(code) == "[]\n"


WITHOUT_POSIX = """
import ctypes, os, signal, sys

sys.modules.update(dict.fromkeys(["fcntl", "resource", "pwd", "grp", "termios"]))
for name in ("chown", "fork", "geteuid", "getloadavg", "getpgid", "getuid", "killpg", "nice", "setsid"):
    delattr(os, name)
del os.sched_getaffinity
for name in ("SIGALRM", "SIGHUP", "SIGUSR1", "SIGUSR2", "pthread_sigmask"):
    delattr(signal, name)

class Library(ctypes.CDLL):
    def __init__(self, name, *arguments, **options):
        if name is None:
            raise TypeError("argument of type 'NoneType' is not iterable")  # as on Windows
        super().__init__(name, *arguments, **options)

ctypes.CDLL = Library
import unveil, unveil.plugins, unveil.testing, unveil.app.cli, unveil.models.evaluation.cli
import unveil.models.core.numba_kernels, unveil.models.training.loop

sys.platform = "darwin"  # from here on, or the standard library itself would fail
"""


def test_users_need_nothing_that_posix_alone_has():
    code = WITHOUT_POSIX + (
        "import numpy; images = numpy.random.default_rng(0).integers(0, 256, (24, 48, 48, 3), numpy.uint8); "
        "report = unveil.audit(lambda x: 255 - x, images, attacks=['fr', 'itn'], profile='smoke', progress=False); "
        "print(unveil.Client.__name__, *[attack.status for attack in report])"
    )
    assert _python(code) == "Client succeeded succeeded succeeded\n"


def test_an_audit_loads_no_server_package():
    code = (
        "import sys, numpy, unveil; images = numpy.zeros((9, 48, 48, 3), numpy.uint8); images[:, ::2] = 9; "
        "report = unveil.audit(lambda x: 255 - x, images, attacks=['none'], profile='smoke', progress=False); "
        "repr(report); report.render('html'); "
        "print(sorted({'torch', 'fastapi', 'celery', 'redis', 'sqlalchemy', 'pydantic_settings'} & set(sys.modules)))"
    )
    assert _python(code) == "[]\n"


def test_the_negative_is_broken_by_what_its_oracle_tells(report):
    assert report.verdict == "broken"
    assert "chosen-plaintext" in report.because
    assert (report.name, report.randomised, report.key_per_image) == ("negative", False, False)
    assert report["chosen-plaintext"].result.ssim.mean == pytest.approx(1)


def test_an_attack_has_its_images_scores_and_status(report):
    chosen = report["chosen-plaintext"]
    assert chosen.images.shape == (32, 48, 48, 3)
    assert chosen.images.dtype == np.uint8
    assert len(chosen.scores["ssim"]) == 32
    assert report["brute-force"].status == "not_applicable"
    assert "cannot be counted" in report["brute-force"].reason
    assert report["brute-force"].images is None
    with pytest.raises(KeyError, match="does not include 'gan'; it has none"):
        report["gan"]


def test_a_function_has_one_key_and_the_result_notes_it(report):
    assert "the function has one key: no further keys were drawn" in report["fr"].result.notes


def test_it_shows_itself_in_a_notebook_a_terminal_and_as_a_table(report):
    html = report._repr_html_()
    assert "broken" in html
    assert "data:image/png;base64," in html
    assert "<script" not in html
    assert "the function has one key: no further keys were drawn" in html
    assert "chosen-plaintext" in repr(report)
    assert max(map(len, repr(report).splitlines())) <= 110
    table = report.to_pandas().set_index("attack")
    assert table.loc["chosen-plaintext", "verdict"] == "broken"
    assert table.loc["chosen-plaintext", "ssim"] == pytest.approx(1)
    assert table.loc["brute-force", "status"] == "not_applicable"
    assert "negative & broken" in report.to_latex()
    assert "Chosen plaintext: 1.000 (1.000 to 1.000), broken" in report.plot().svg


@pytest.mark.parametrize("suffix", ["html", "json", "csv", "md", "pdf", "zip"])
def test_it_saves_every_format_of_the_service(report, suffix, tmp_path):
    path = report.save(tmp_path / f"report.{suffix}")
    if suffix == "zip":
        with zipfile.ZipFile(path) as archive:
            assert {"report.html", "cells/001-fr/scores.csv"} <= set(archive.namelist())
    elif suffix == "pdf":
        assert path.read_bytes().startswith(b"%PDF-")
    else:
        text = path.read_text()
        assert "chosen-plaintext" in text
        assert "POST /evaluations" not in text
    if suffix == "json":
        assert json.loads(text)["verdicts"][0]["verdict"] == "broken"


def test_an_unknown_format_is_refused(report, tmp_path):
    with pytest.raises(ValueError, match=r"unknown format '.doc'; end the name in one of .html, .json"):
        report.save(tmp_path / "report.doc")


def test_the_same_seed_gives_the_same_digest():
    digests = {unveil.audit("tanaka", IMAGES, attacks=["none", "fr"], seed=s, **QUICK).digest for s in (1, 1, 2)}
    assert len(digests) == 2


def test_an_interrupted_audit_resumes_in_its_folder(tmp_path):
    arguments = {"attacks": ["none", "fr"], "out": tmp_path / "audit", **QUICK}
    calls = []

    def protect(images):
        calls.append(len(images))
        if len(calls) == 9:  # in the middle: the oracle is asked
            raise KeyboardInterrupt
        return 255 - images

    with pytest.raises(KeyboardInterrupt):
        unveil.audit(protect, IMAGES, **arguments | {"attacks": ["none", "fr", "chosen-plaintext"]})
    stored = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "audit").glob("*.npz")}
    assert stored, "the oracle is asked after the first of two cells that are computed at a time"
    assert not list((tmp_path / "audit").rglob("*.part"))
    resumed = unveil.audit(lambda images: 255 - images, IMAGES, name="protect", **arguments)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "audit").glob("*.npz")}.items() >= stored.items()
    fresh = unveil.audit(lambda images: 255 - images, IMAGES, name="protect", **arguments | {"out": None})
    assert resumed.digest == fresh.digest
    assert (resumed["fr"].images == fresh["fr"].images).all()


def test_cells_computed_at_a_time_or_one_by_one_have_one_digest(monkeypatch):
    attacks = ["none", "fr", "known-plaintext", "chosen-plaintext"]
    digests = set()
    for threads in (1, 3):
        monkeypatch.setattr(scheme_audit, "_THREADS", threads)
        digests.add(unveil.audit(negative, IMAGES, attacks=attacks, **QUICK).digest)
    assert len(digests) == 1


def test_ctrl_c_ends_every_cell_and_leaves_a_folder_that_resumes(tmp_path):
    code = """
import sys, numpy, unveil

calls = []

def protect(images):
    calls.append(len(images))
    if len(calls) == 9:  # in the middle: the oracle is asked
        print("asked", flush=True)
    return 255 - images

images = numpy.random.default_rng(0).integers(0, 256, (50, 48, 48, 3), numpy.uint8)
attacks = ["none", "fr", "known-plaintext", "chosen-plaintext"]
unveil.audit(protect, images, attacks=attacks, out=sys.argv[1], profile="smoke", progress=False)
"""
    folder = tmp_path / "audit"
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    if process.returncode:  # or it was at its end
        assert b"KeyboardInterrupt" in errors
    assert not list(folder.rglob("*.part"))
    again = subprocess.run(command, capture_output=True, check=True)
    assert again.returncode == 0
    assert len(list(folder.glob("*.npz"))) == 4


def test_progress_of_cells_computed_at_a_time_grows_and_names_them():
    seen = []
    progress = scheme_audit._AuditProgress(["none", "fr"], 0.2, lambda *moment: seen.append(moment))
    progress.update("none", 0.5, "protecting")
    progress.update("fr", 0.0, "running")
    progress.update("none", 0.2, "controls")
    progress.end("none")
    progress.update("fr", 0.5, "controls")
    fractions, phases = zip(*seen, strict=True)
    assert fractions == pytest.approx((0.4, 0.4, 0.4, 0.8))
    assert phases == ("none: protecting", "none, fr: running", "none, fr: controls", "fr: controls")
    progress.cancel()
    with pytest.raises(Cancelled):
        progress.update("fr", 0.6, "controls")


def test_a_folder_of_another_audit_is_refused(tmp_path):
    unveil.audit(negative, IMAGES, attacks=["none"], out=tmp_path, **QUICK)
    with pytest.raises(ValueError, match=r"holds another audit \(different: ciphertexts\); give another folder"):
        unveil.audit(lambda images: images, IMAGES, name="negative", attacks=["none"], out=tmp_path, **QUICK)


@pytest.mark.parametrize("key_per_image", [False, True])
def test_without_a_fixed_map_attacks_that_need_one_do_not_apply(key_per_image):
    rng = np.random.default_rng(0)

    def one_time_pad(images):
        return images ^ rng.integers(0, 256, images.shape, np.uint8)

    attacks = ["none", "fr", "key-recovery", "known-plaintext", "chosen-plaintext"]
    report = unveil.audit(one_time_pad, IMAGES, attacks=attacks, key_per_image=key_per_image, **QUICK)
    assert report.randomised
    assert report.key_per_image
    assert report.to_json()["settings"]["randomised"] is True
    statuses = {attack.name: attack.status for attack in report}
    assert statuses == {
        "none": "succeeded",
        "fr": "succeeded",
        "key-recovery": "not_applicable",
        "known-plaintext": "not_applicable",
        "chosen-plaintext": "not_applicable",
    }
    assert "every image has a key of its own" in report["key-recovery"].reason
    if not key_per_image:
        assert "randomised: the function protects one image differently" in report._repr_html_()
        alone = unveil.audit(one_time_pad, IMAGES, attacks=["none"], **QUICK)
        assert "Notes: " in alone._repr_html_()
        assert "randomised: the function protects one image differently" in alone._repr_html_()


def test_without_an_oracle_no_attack_calls_the_function():
    for scheme in (negative, "tanaka"):
        report = unveil.audit(scheme, IMAGES, attacks=["none", "chosen-plaintext"], oracle=False, **QUICK)
        assert report["chosen-plaintext"].status == "not_applicable"
        assert report["chosen-plaintext"].reason == "the attacker has no encryption oracle (oracle=False)"


def test_ciphertexts_are_audited_without_their_scheme():
    protected = make_scheme("tanaka", {}).protect(IMAGES, seed_secret(bytes(32)))
    report = unveil.audit(unveil.Ciphertexts(protected, IMAGES), attacks=["none", "known-plaintext"], **QUICK)
    assert report.verdict == "broken"
    assert report.name == "ciphertexts"
    unscored = unveil.audit(unveil.Ciphertexts(protected), attacks=["none", "fr"], **QUICK)
    assert unscored["none"].result.ssim is None
    assert unscored["known-plaintext" if "known-plaintext" in unscored.attacks else "none"].status == "succeeded"


def test_schemes_go_by_name_class_and_instance():
    by_name = unveil.audit("pixelwise:different", IMAGES, attacks=["none"], **QUICK)
    instance = make_scheme("pixelwise", {"key_mode": "different"})
    assert unveil.audit(instance, IMAGES, attacks=["none"], **QUICK).digest == by_name.digest
    assert unveil.audit(type(instance), IMAGES, attacks=[FeatureReconstruction(FrSettings())], **QUICK).attacks == [
        "none",
        "fr",
    ]


def test_a_scheme_that_breaks_its_determinism_is_refused():
    class Random(Tanaka):
        name = "random"

        def encrypt(self, images, key):
            return images ^ np.random.default_rng().integers(0, 256, images.shape, np.uint8)

    with pytest.raises(unveil.InvalidScheme, match="random encrypted image 0 differently twice under one key"):
        unveil.audit(Random, IMAGES, **QUICK)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((negative,), "images are missing"),
        ((3, IMAGES), "scheme is a int; give a function"),
        ((negative, IMAGES[:1]), "at least 2 images"),
        ((unveil.Ciphertexts(IMAGES, IMAGES[:4]),), "originals must be in the order and size"),
        ((unveil.Ciphertexts(IMAGES), IMAGES), r"give the plain images as Ciphertexts\(protected, originals\)"),
        (("vigenere", IMAGES), "unknown"),
    ],
)
def test_a_wrong_argument_is_refused_with_what_to_do(arguments, message):
    with pytest.raises((ValueError, LookupError), match=message):
        unveil.audit(*arguments, **QUICK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"profile": "slow"}, "profile must be one of smoke, quick, paper; got 'slow'"),
        ({"name": "tanaka"}, "that of a built-in scheme"),
        ({"attacks": "every"}, "attacks must be 'default', 'all' or a list"),
        ({"attacks": ["fr", "fr"]}, "give each once; got fr more than once"),
        ({"attacks": ["brute-force"]}, "no attack applies: the key space"),
    ],
)
def test_a_wrong_option_is_refused_with_what_to_do(options, message):
    with pytest.raises(ValueError, match=message):
        unveil.audit(negative, IMAGES, **QUICK | options)


def save_folder(folder, images, names):
    for image, name in zip(images, names, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{name}.png")
    return folder


NAMES = [f"{'cat' if i % 3 else 'dog'}/{i}" for i in range(len(IMAGES))]


def test_reconstructions_in_a_folder_are_matched_with_images_in_a_folder_by_file_name(tmp_path):
    plain = save_folder(tmp_path / "plain", IMAGES, NAMES)
    flat = save_folder(tmp_path / "flat", IMAGES, [name.partition("/")[2] for name in NAMES])
    report = unveil.audit(negative, plain, attacks=[unveil.Reconstructions(flat)], **QUICK)
    assert report["submitted"].result.ssim.mean == pytest.approx(1)
    (flat / "7.png").unlink()
    with pytest.raises(ValueError, match="no reconstruction of 1 of 50 images: '7'"):
        unveil.audit(negative, plain, attacks=[unveil.Reconstructions(flat)], **QUICK)


def test_originals_in_a_folder_are_matched_with_ciphertexts_in_a_folder_by_file_name(tmp_path):
    protected = save_folder(tmp_path / "protected", 255 - IMAGES, [name.partition("/")[2] for name in NAMES])
    plain = save_folder(tmp_path / "plain", IMAGES, NAMES)
    report = unveil.audit(unveil.Ciphertexts(protected, plain), attacks=["none", "known-plaintext"], **QUICK)
    assert report["known-plaintext"].result.ssim.mean == pytest.approx(1)


def test_files_of_a_folder_are_never_matched_by_position(tmp_path):
    folder = save_folder(tmp_path, IMAGES, NAMES)
    message = "come from a folder, whose files have names and no order, but (images|reconstructions|originals) do not"
    for scheme, images, attacks in (
        (negative, IMAGES, [unveil.Reconstructions(folder)]),
        (negative, folder, [unveil.Reconstructions(IMAGES)]),
        (unveil.Ciphertexts(folder, IMAGES), None, ["none"]),
    ):
        with pytest.raises(ValueError, match=message):
            unveil.audit(scheme, images, attacks=attacks, **QUICK)
    with pytest.raises(ValueError, match="labels cannot be matched with the files of a folder"):
        unveil.audit(negative, folder, labels=range(50), **QUICK)


def test_submitted_images_are_not_resized(tmp_path):
    plain = save_folder(tmp_path / "plain", IMAGES, NAMES)
    wide = save_folder(tmp_path / "wide", IMAGES[:, :32], NAMES)
    with pytest.raises(ValueError, match=r"the images are 48x32, and only square ones .* would have to be resized"):
        unveil.audit(negative, plain, attacks=[unveil.Reconstructions(wide)], **QUICK)
    with pytest.raises(ValueError, match="originals: dataset wide: the images are 48x32"):
        unveil.audit(unveil.Ciphertexts(plain, wide), attacks=["none"], **QUICK)


def test_results_note_the_conversions_of_submitted_images():
    grey = unveil.Reconstructions(IMAGES[..., 0])
    report = unveil.audit(negative, IMAGES, attacks=[grey], **QUICK)
    assert "submitted images: grey images became RGB" in report["submitted"].result.notes
    report = unveil.audit(unveil.Ciphertexts(255 - IMAGES, IMAGES / 255), attacks=["none"], **QUICK)
    assert "originals: values in 0..1 were scaled to 0..255 and rounded" in report["none"].result.notes
    report = unveil.audit(negative, IMAGES, public=IMAGES[..., 0], attacks=["none"], **QUICK)
    assert "public images: grey images became RGB" in report["none"].result.notes


def test_reconstructions_of_another_attack_are_scored():
    noisy = np.clip(IMAGES + np.random.default_rng(0).integers(-20, 21, IMAGES.shape), 0, 255).astype(np.uint8)
    submitted = unveil.Reconstructions(noisy, claims="known-plaintext")
    report = unveil.audit(negative, IMAGES, attacks=[submitted], **QUICK)
    assert report.attacks == ["none", "submitted"]
    assert report["submitted"].threat_model == "known-plaintext"
    assert report["submitted"].result.controls.negative == "passed"
    assert report["submitted"].result.identification.top1 > 0.9
    with pytest.raises(ValueError, match=r"in the order and size of the images; got \[9, 48, 48, 3\]"):
        unveil.audit(negative, IMAGES, attacks=[replace(submitted, images=noisy[:9])], **QUICK)
    with pytest.raises(ValueError, match="give a function or Ciphertexts"):
        unveil.audit("tanaka", IMAGES, attacks=[submitted], **QUICK)
