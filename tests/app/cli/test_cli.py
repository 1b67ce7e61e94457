"""`unveil` as a user runs it: a process, its output and its exit code."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.sample_images import archive, classes, pixels, png
from unveil.app.local.stack import LocalStack

ROOT = Path(__file__).parents[3]


@pytest.fixture
def run_unveil(tmp_path: Path):
    def run(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", "from unveil.app.cli import main; main()", *map(str, words)],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture
def state_options(stack: LocalStack) -> tuple[str, str]:
    return "--state", str(stack.state)


def test_a_folder_of_pictures_goes_there_and_back(run_unveil, state_options, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(png(number, 21, 30))
    (tmp_path / "0.bmp").write_bytes(_bmp(9))
    done = run_unveil(
        "encrypt", "0.png", "0.bmp", "1.png", "2.png", "--scheme", "pixelwise:different", "--json", *state_options
    )
    written = json.loads(done.stdout)["images"]
    assert [entry["file"] for entry in written] == [
        "0.protected.png", "0-2.protected.png", "1.protected.png", "2.protected.png",
    ]  # fmt: skip
    assert len({entry["key_id"] for entry in written}) == 4
    run_unveil("decrypt", *(entry["path"] for entry in written), "--out", "back", *state_options)
    assert np.array_equal(_read(tmp_path / "back" / "2.plain.png"), pixels(2, 21, 30))
    assert np.array_equal(_read(tmp_path / "back" / "0-2.plain.png"), pixels(9))


def test_what_was_protected_before_is_never_written_over(run_unveil, state_options, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for number, name in enumerate(("a.png", "sub/a.png")):
        (tmp_path / name).write_bytes(png(number, 21, 30))
        run_unveil("encrypt", name, "--scheme", "tanaka", *state_options)
    run_unveil("decrypt", "protected/a.protected.png", "protected/a-2.protected.png", *state_options)
    assert np.array_equal(_read(tmp_path / "plain" / "a.plain.png"), pixels(0, 21, 30))
    assert np.array_equal(_read(tmp_path / "plain" / "a-2.plain.png"), pixels(1, 21, 30))


def test_an_unwritable_folder_is_reported_before_a_key_is_drawn(run_unveil, state_options, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    before = run_unveil("keys", "list", "--json", *state_options).stdout
    for words in (("encrypt", "a.png", "--scheme", "tanaka"), ("decrypt", "a.png", "--key", "key_" + 32 * "0")):
        assert "--out a.png" in run_unveil(*words, "--out", "a.png", *state_options, code=2).stderr
    assert run_unveil("keys", "list", "--json", *state_options).stdout == before


def test_a_restore_that_lacks_something_leaves_nothing_in_the_way(run_unveil, tmp_path: Path) -> None:
    (tmp_path / "some.bak").write_bytes(b"x")
    (tmp_path / "a.png").write_bytes(png(1))
    assert "--keyring" in run_unveil("restore", "some.bak", "--state", "new", code=2).stderr
    assert "no such" in run_unveil("restore", "none.bak", "--state", "new", "--keyring", "a.png", code=2).stderr.lower()
    assert "not a keyring" in run_unveil("restore", "some.bak", "--state", "new", "--keyring", "a.png", code=2).stderr
    assert not (tmp_path / "new").exists()
    run_unveil("keys", "new-ring", "another")
    run_unveil("restore", "some.bak", "--state", "new", "--keyring", "another", code=1)
    assert not (tmp_path / "new" / "secrets" / "keyring").exists(), "it may have been the wrong one"


def test_a_key_made_before_is_used_again(run_unveil, state_options, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    first = json.loads(run_unveil("encrypt", "a.png", "--scheme", "tanaka", "--json", *state_options).stdout)["images"][
        0
    ]
    second = json.loads(run_unveil("encrypt", "a.png", "--key", first["key_id"], "--json", *state_options).stdout)[
        "images"
    ][0]
    assert first["key_id"] == second["key_id"]


def test_an_evaluation_is_watched_printed_and_reported(run_unveil, state_options, tmp_path: Path) -> None:
    words = ("--schemes", "pixelwise:same,tanaka", "--attacks", "none,fr:b=1", "--profile", "smoke", "--keys", "1")
    done = run_unveil("evaluate", *words, "--watch", *state_options)
    assert "pixelwise (same key)" in done.stdout
    assert "paper" in done.stdout
    assert re.search(r"(\d+)/\1 cells  100%  succeeded", done.stderr), "a line, and runnable cells only"
    assert "the worst case over all attacks" in done.stdout
    assert "not robust" in done.stdout, "the paper's own verdict, beside ours"
    id = done.stderr.split()[0]
    assert done.stdout.index("the worst case over all attacks") < done.stdout.index("key-recovery*")
    run_unveil("report", id, "-o", "out.csv", *state_options)
    assert (tmp_path / "out.csv").read_text().count("\n") >= 5
    assert json.loads(run_unveil("report", id, "-o", "-", "--format", "json", *state_options).stdout)
    assert run_unveil("report", id, "-o", "-", *state_options).stdout.startswith("<!doctype html>")
    run_unveil("report", id, "-o", "out.html", *state_options)
    (key, *_) = json.loads(run_unveil("report", "keys", "--json", *state_options).stdout)["keys"]
    assert key["kid"] in run_unveil("report", "verify", "out.html", "--key", key["kid"]).stdout
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [key]}))
    signed = json.loads(run_unveil("report", "verify", "out.html", "--key", "jwks.json", "--json").stdout)
    assert (signed["evaluation"], signed["auditor"], signed["key_checked"]) == (id, "local", True)
    assert "give --key" in run_unveil("report", "verify", "out.html").stderr
    assert "another key" in run_unveil("report", "verify", "out.html", "--key", "x" * 43, code=1).stderr
    page = (tmp_path / "out.html").read_bytes()
    (tmp_path / "changed.html").write_bytes(page.replace(b"broken", b"robust"))
    assert "changed after" in run_unveil("report", "verify", "changed.html", code=1).stderr
    assert "no-such" in run_unveil("report", "verify", "no-such.html", code=2).stderr
    run_unveil("report", id, "-o", "out.doc", *state_options, code=2)
    assert "nowhere" in run_unveil("report", id, "-o", "nowhere/out.html", *state_options, code=2).stderr


def test_an_order_that_is_not_watched_prints_its_id(run_unveil, state_options) -> None:
    done = run_unveil(
        "evaluate", "--schemes", "tanaka", "--attacks", "brute-force", "--profile", "smoke", *state_options
    )
    assert done.stdout.startswith("ev_")


def test_datasets_are_uploaded_listed_and_deleted(run_unveil, state_options, tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(archive(classes(5)))
    id = run_unveil("datasets", "upload", "set.zip", "--size", "16", *state_options).stdout.strip()
    assert id in [item["id"] for item in json.loads(run_unveil("datasets", "list", "--json", *state_options).stdout)]
    assert "sample" in run_unveil("datasets", "list", *state_options).stdout
    run_unveil("datasets", "delete", id, *state_options)
    run_unveil("datasets", "delete", id, *state_options, code=2)


def test_an_account_is_made_used_and_revoked(run_unveil, state_options, stack: LocalStack) -> None:
    token = run_unveil("accounts", "create", "reader one", "--scopes", "read", *state_options).stdout.strip()
    there = ("--url", stack.url, "--token", token)
    run_unveil("datasets", "list", *there)
    refused = run_unveil("evaluate", "--schemes", "tanaka", *there, code=2)
    assert "scope evaluate" in refused.stderr
    assert "already exists" in run_unveil("accounts", "create", "reader one", *state_options, code=1).stderr
    assert "scopes" in run_unveil("accounts", "create", "reader two", "--scopes", "fly", *state_options, code=2).stderr
    run_unveil("accounts", "revoke", "reader one", *state_options)
    run_unveil("datasets", "list", *there, code=2)
    revoked = {
        item["name"]: item["revoked_at"]
        for item in json.loads(run_unveil("accounts", "list", "--json", *state_options).stdout)
    }
    assert revoked["reader one"]
    assert not revoked["local"]


def test_a_running_stack_is_written_to_a_file_and_made_anew_in_another_folder(
    run_unveil, state_options, stack, tmp_path
) -> None:
    first, second, there = tmp_path / "first.tar", tmp_path / "second.tar", ("--state", tmp_path / "there")
    done = run_unveil("backup", first, *state_options)
    assert first.stat().st_mode & 0o777 == 0o600
    assert "keyring" in done.stderr, "it says that the ring is kept apart"
    assert "stop it first" in run_unveil("restore", first, *state_options, code=1).stderr
    run_unveil("restore", first, "--keyring", stack.state / "secrets" / "keyring", *there)
    run_unveil("backup", second, *there)  # of a stack that does not run
    assert _tables(first) == _tables(second)
    assert b"local" in _tables(second)["tables/accounts/000000"]


def _tables(file: Path) -> dict[str, bytes]:
    with tarfile.open(file) as archive:
        return {
            member.name: archive.extractfile(member).read() for member in archive if member.name.startswith("tables/")
        }


def test_doctor_passes_a_healthy_stack_and_reports_failures_elsewhere(run_unveil, state_options) -> None:
    checks = json.loads(run_unveil("doctor", "--json", *state_options).stdout)
    assert {check["name"]: check["grade"] for check in checks}["service"] == "ok"
    assert not [check for check in checks if check["grade"] == "bad"]
    elsewhere = run_unveil("doctor", code=1)
    assert "failed checks: database, broker, workers" in elsewhere.stderr
    assert (
        "failed checks: service" in run_unveil("doctor", "--url", "http://127.0.0.1:9", *state_options, code=3).stderr
    )


def test_doctor_of_a_remote_service_checks_it_alone_and_leaves_nothing_behind(run_unveil, stack, tmp_path) -> None:
    remote = ("--url", stack.url, "--token", stack.token)
    checks = {check["name"]: check for check in json.loads(run_unveil("doctor", *remote, "--json").stdout)}
    assert set(checks) == {"service", "database", "migrations", "broker", "blobs", "workers", "token"}
    assert {check["grade"] for check in checks.values()} == {"ok"}
    assert "failed checks: token" in run_unveil("doctor", "--url", stack.url, "--token", "wrong", code=1).stderr
    assert not list(tmp_path.iterdir())


def test_retention_counts_before_it_deletes(run_unveil, state_options) -> None:
    counted = json.loads(run_unveil("retention", "--older-than", "30d", "--dry-run", "--json", *state_options).stdout)
    assert counted["dry_run"]
    assert counted["evaluations"] == 0
    run_unveil("retention", "--older-than", "30d", *state_options)
    assert "30d" in run_unveil("retention", "--older-than", "soon", *state_options, code=2).stderr


def test_a_keyring_is_made_once(run_unveil, tmp_path: Path) -> None:
    run_unveil("keys", "new-ring", "ring")
    assert (tmp_path / "ring").stat().st_mode & 0o777 == 0o600
    assert "choose another name" in run_unveil("keys", "new-ring", "ring", code=2).stderr


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["encrypt", "missing.png", "--scheme", "tanaka"], 2, "missing.png: no such file"),
        (["encrypt", "a.png"], 2, "--scheme"),
        (["encrypt", "a.png", "--scheme", "rot13"], 2, "rot13"),
        (["encrypt", "a.png", "--scheme", "tanaka:blue"], 2, "settings: "),
        (["encrypt", "text.png", "--scheme", "tanaka"], 2, "text.png"),
        (["decrypt", "a.png"], 2, "--key"),
        (["evaluate", "--schemes", "tanaka", "--attacks", "fr:b=7"], 2, "/attacks/0/b"),
        (["evaluate", "--schemes", "tanaka", "--dataset", "nowhere"], 2, "nowhere"),
        (["evaluate", "--bogus"], 2, "--bogus"),
        (["report", "ev_nothing"], 2, "ev_nothing"),
        (["worker", "--queues", "tea"], 2, "tea"),
    ],
)
def test_wrong_usage_exits_with_2_and_names_what_is_wrong(
    run_unveil, state_options, tmp_path: Path, words, code, text
) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "text.png").write_text("hello")
    assert text in run_unveil(*words, *(() if words[0] == "worker" else state_options), code=code).stderr


def test_a_service_that_is_not_there_exits_with_3(run_unveil, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    elsewhere = ("--url", "http://127.0.0.1:9", "--token", "x")
    said = run_unveil("encrypt", "a.png", "--scheme", "tanaka", *elsewhere, code=3).stderr
    assert "127.0.0.1:9" in said
    assert "unveil local" in said, "what to do about it"


def test_it_prints_its_version(run_unveil) -> None:
    assert run_unveil("--version").stdout == f"unveil {version('unveil')}\n"


HEAVY = ("torch", "skimage", "scipy", "numpy", "PIL", "fastapi", "pydantic", "asyncio", "trio", "rich.progress")


@pytest.mark.parametrize(
    ("words", "not_needed"),
    [
        ("--version", (*HEAVY, "httpx", "rich", "unveil.app.cli.images", "unveil.app.cli.server")),
        ("--help", (*HEAVY, "httpx", "rich")),
        ("encrypt --help", (*HEAVY, "httpx", "rich", "unveil.app.cli.evaluations", "unveil.app.cli.server")),
        ("keys list", (*HEAVY, "httpx._main", "unveil.app.report", "unveil.app.cli.server")),
        ("evaluations list", (*HEAVY, "httpx._main", "unveil.app.cli.server")),
    ],
)
def test_a_command_starts_without_the_packages_that_it_does_not_need(
    state_options, words: str, not_needed: tuple[str, ...]
) -> None:
    arguments = words.split() if "--" in words else [*words.split(), *state_options]
    code = f"""
import atexit, sys
from unveil.app.cli import main
sys.argv = ["unveil", *{arguments}]
atexit.register(lambda: print("loaded:", [name for name in {not_needed} if sys.modules.get(name)]))
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: []"


def _bmp(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels(seed)).save(buffer, "BMP")
    return buffer.getvalue()


def _read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))
