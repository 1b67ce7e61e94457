"""`unveil audit` as a build calls it: a file, a folder, an exit code."""

import json
import signal
import subprocess
import sys
import time
from xml.etree import ElementTree

import pytest
from PIL import Image

from tests.models.sample_images import photographs

SCHEME = """
import time
from pathlib import Path


def protect(images):
    return 255 - images

def wrong(images):
    return images / 255

def slow(images):
    Path("started").touch()
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    (folder / "scheme.py").write_text(SCHEME)
    (folder / "images").mkdir()
    for i, image in enumerate(photographs(20, 48, 48)):
        Image.fromarray(image).save(folder / "images" / f"{i}.png")
    return folder


def _command(folder, function, *options):
    return [
        sys.executable, "-c", "from unveil.app.cli import main; main()",
        "audit", f"scheme.py:{function}", "--images", "images", "--profile", "smoke", "--attacks", "none,fr", *options,
    ]  # fmt: skip


def _run(folder, function, *options):
    return subprocess.run(_command(folder, function, *options), cwd=folder, capture_output=True, text=True, check=False)


def test_it_writes_a_report_prints_the_verdict_and_fails_the_build(folder):
    done = _run(folder, "protect", "-o", "report.html", "--out", "cells")
    assert done.returncode == 4, done.stderr
    assert "protect" in done.stdout
    assert "wrote report.html" in done.stderr
    assert "<html" in (folder / "report.html").read_text()
    files = ("--junit", "junit.xml", "--summary", "summary.md")
    again = _run(folder, "protect", "--fail-on", "broken", "--json", "--out", "cells", *files)  # reads finished cells
    assert ElementTree.parse(folder / "junit.xml").getroot().get("failures") == "0"
    assert "| passed |" in (folder / "summary.md").read_text()
    assert json.loads(again.stdout)["verdicts"][0]["verdict"] in ("leaks", "inconclusive")
    assert again.returncode == 0


@pytest.mark.parametrize(
    ("function", "options", "code", "message"),
    [
        ("wrong", (), 1, "wrong returned float64 values"),
        ("protect", ("-o", "report.docx"), 2, "unknown format; end the name in .html"),
        ("protect", ("--attacks", "magic"), 2, "magic"),
        ("absent", (), 2, "scheme.py has no function 'absent'; it has Path, protect, wrong, slow"),
    ],
)
def test_a_refusal_names_the_reason(folder, function, options, code, message):
    done = _run(folder, function, *options)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr


def test_ctrl_c_ends_it_at_once_without_a_traceback(folder):
    process = subprocess.Popen(
        _command(folder, "slow", "--out", "interrupted"), cwd=folder, stderr=subprocess.PIPE, text=True,
        # A shell that runs the tests in the background has them ignore the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
    )  # fmt: skip
    deadline = time.monotonic() + 100
    while not (folder / "started").exists():
        assert time.monotonic() < deadline, "the function was not called"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "nothing was kept" not in errors
    assert "interrupted keeps the finished attacks; run the command again to go on" in " ".join(errors.split())
