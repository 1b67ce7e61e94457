"""What a command is given and cannot use ends it with one line that says so, never with a traceback."""

from __future__ import annotations

import os
import runpy
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sample_images import png
from unveil.app import cli
from unveil.app.cli import admin, completion, evaluations
from unveil.app.client.client import Client
from unveil.app.client.evaluation import Evaluation
from unveil.app.local.stack import LocalStack

HUGE = "9" * 30
UNREACHABLE_DATABASE_URL = "postgresql://127.0.0.1:9/unveil"
ExpectError = Callable[..., str]


@pytest.fixture
def expect_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[ExpectError]:
    """What the command says on stderr, in a folder with a picture, an empty file and one that is no text."""
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "file").touch()
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "execv", lambda *words: pytest.fail(f"this process was to become {words}"))
    handled = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def run(*words: str, code: int = 2) -> str:
        monkeypatch.setattr(sys, "argv", ["unveil", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert ended.value.code == code, said
        return said.err

    yield run
    for number, handler in handled.items():  # `unveil local` takes them over
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("keys new-ring nowhere/ring", "nowhere/ring: No such file or directory"),
        ("keys new-ring file/ring", "file/ring: Not a directory"),
        ("keys add-master folder", "folder: Is a directory"),
        ("keys add-master bytes", "bytes is not a keyring"),
        ("keys create tanaka --material bytes", "bytes is not a JSON object"),
        ("encrypt . --scheme tanaka", ". is a folder; give image files"),
        ("encrypt " + "x" * 300 + " --scheme tanaka", "File name too long"),
        ("encrypt a.png --scheme tanaka --out /proc", "--out /proc: "),
        ("backup nowhere/all.tar", "No such file or directory"),
        ("backup file/all.tar", "Not a directory"),
        ("local --state file", "file: a file of that name already exists"),
        ("local --state file/state", "file/state: Not a directory"),
        (f"local --attack-workers {HUGE}", "--attack-workers"),
        (f"serve --processes {HUGE}", "--processes"),
        (f"worker --concurrency {HUGE}", "--concurrency"),
        ("worker --queues ,", "unknown queue ''"),
        (f"retention --older-than {HUGE}d", "is not an age"),
        (f"retention --older-than {'9' * 5000}h", "is not an age"),
        ("retention --older-than ²d", "is not an age"),
        ("retention --older-than -3d", "is not an age"),
        ("keys rotate-master --patience -1", "--patience"),
        ("schemes --url http://127.0.0.1:port", "is not a valid address"),
        ("schemes --url http://[::1", "is not a valid address"),
        ("schemes --url http://", "is not a valid address"),
        ("schemes --token ümlaut", "the token"),
    ],
)
def test_a_path_a_number_or_an_address_that_cannot_be(expect_error: ExpectError, words: str, text: str) -> None:
    assert text in expect_error(*words.split(" ")).replace("\n", " ")


def test_a_folder_with_a_foreign_manifest_is_reported_before_a_key_is_drawn(
    expect_error: ExpectError, tmp_path: Path
) -> None:
    there = ("--url", "http://127.0.0.1:9", "--token", "x")
    for content in ('{"images": [1]}', '{"images": [{}]}', "{}"):
        (tmp_path / "manifest.json").write_text(content)
        assert "not a manifest" in expect_error("encrypt", "a.png", "--scheme", "tanaka", "--out", ".", *there)
        assert "not a manifest" in expect_error("decrypt", "a.png", *there)
    (tmp_path / "folder" / "manifest.json").mkdir()
    assert "Is a directory" in expect_error("encrypt", "a.png", "--scheme", "tanaka", "--out", "folder", *there)


@pytest.mark.parametrize("words", ["accounts list", "retention --older-than 3d", "migrate", "backup all.tar"])
def test_an_unreachable_database_is_reported_with_the_remedy(
    expect_error: ExpectError, monkeypatch, words: str
) -> None:
    monkeypatch.setenv("UNVEIL_DATABASE_URL", UNREACHABLE_DATABASE_URL)
    said = expect_error(*words.split(), code=3)
    assert "refused" in said
    assert "UNVEIL_DATABASE_URL" in said
    assert "sqlalche.me" not in said


def test_a_rotation_without_a_database_leaves_the_ring_as_it_is(
    expect_error: ExpectError, monkeypatch, tmp_path: Path, empty_database_url
) -> None:
    ring = tmp_path / "ring"
    expect_error("keys", "new-ring", str(ring), code=0)
    before = ring.read_bytes()
    monkeypatch.setenv("UNVEIL_KEYRING_FILE", str(ring))
    for url, code in ((UNREACHABLE_DATABASE_URL, 3), (empty_database_url, 1)):
        monkeypatch.setenv("UNVEIL_DATABASE_URL", url)
        expect_error("keys", "rotate-master", code=code)
        assert ring.read_bytes() == before


def test_a_database_without_tables_is_reported_with_the_remedy(
    expect_error: ExpectError, monkeypatch, empty_database_url
) -> None:
    monkeypatch.setenv("UNVEIL_DATABASE_URL", empty_database_url)
    for words in ("accounts list", "retention --older-than 3d"):
        assert "`unveil migrate`" in expect_error(*words.split(), code=1)


@pytest.mark.parametrize("words", ["accounts list", "retention --older-than 3d", "migrate", "serve", "worker", "local"])
def test_a_setting_that_cannot_be_read_is_named_as_it_is_set(
    expect_error: ExpectError, monkeypatch, words: str
) -> None:
    monkeypatch.setenv("UNVEIL_SIGN_IN_CODE_TTL_MINUTES", "soon")
    assert "UNVEIL_SIGN_IN_CODE_TTL_MINUTES: " in expect_error(*words.split())


@pytest.mark.parametrize("name", ["UNVEIL_DATABASE_URL", "UNVEIL_REDIS_URL"])
def test_an_address_that_is_none_is_named(expect_error: ExpectError, monkeypatch, name: str) -> None:
    monkeypatch.setenv(name, "nonsense")
    assert f"{name}: " in expect_error("accounts", "list")


@pytest.mark.parametrize(("file", "text"), [("nowhere", "nowhere: No such file"), ("bytes", "bytes is not a keyring")])
def test_a_keyring_that_cannot_be_read(expect_error: ExpectError, monkeypatch, file: str, text: str) -> None:
    monkeypatch.setenv("UNVEIL_DATABASE_URL", UNREACHABLE_DATABASE_URL)
    monkeypatch.setenv("UNVEIL_KEYRING_FILE", file)
    for words in (("accounts", "list"), ("keys", "rotate-master"), ("backup", "all.tar")):
        assert text in expect_error(*words)


def test_a_disk_that_is_full_is_no_wrong_usage(expect_error: ExpectError, stack: LocalStack) -> None:
    with Client(stack.url, stack.token) as client:
        id = client.evaluations.create(schemes=["tanaka"], attacks=["brute-force"], profile="smoke").id
    words = ("report", id, "-o", "/dev/full", "--format", "json", "--url", stack.url, "--token", stack.token)
    assert "No space left on device" in expect_error(*words, code=1)


def test_an_age_is_days_or_hours() -> None:
    assert admin._parse_age("30d").days == 30
    assert admin._parse_age("36h").total_seconds() == 36 * 3600


def test_tab_is_silent_where_the_state_folder_is_none(monkeypatch, tmp_path: Path) -> None:
    class Typed:
        params: dict[str, object] = {"state": tmp_path / "nowhere"}  # noqa: RUF012

    assert (
        completion.complete_dataset(Typed(), "")
        == completion.complete_key(Typed(), "")
        == completion.complete_evaluation(Typed(), "")
        == []
    )


def test_what_no_json_can_carry_is_refused_by_name(
    expect_error: ExpectError, stack: LocalStack, tmp_path: Path
) -> None:
    at = ("--url", stack.url, "--token", stack.token)
    for value in ("NaN", "1e999"):
        order = ("evaluate", "--schemes", "tanaka", "--attacks", f"fr:b={value}", "--profile", "smoke")
        assert "/attacks/0/b" in expect_error(*order, *at)
    (tmp_path / "key.json").write_text('{"permutation": NaN}')
    assert "is not a JSON object" in expect_error("keys", "create", "tanaka", "--material", "key.json", *at)


def test_an_empty_name_is_not_passed_over(expect_error: ExpectError, stack: LocalStack) -> None:
    at = ("--url", stack.url, "--token", stack.token)
    order = ("evaluate", "--schemes", "tanaka", "--attacks", "fr", "--profile", "smoke")
    assert "/name" in expect_error(*order, "--name", "", *at)
    assert "/name" in expect_error("datasets", "upload", "folder", "--name", "", *at)


def test_an_id_is_an_id_and_no_way_to_elsewhere(expect_error: ExpectError, stack: LocalStack) -> None:
    at = ("--url", stack.url, "--token", stack.token)
    for id in ("..", "../schemes", "a\nb", "a?b"):
        assert "404" in expect_error("keys", "show", id, *at)
        assert "404" in expect_error("evaluations", "show", id, *at)


def test_several_schemes_for_one_picture_are_refused(expect_error: ExpectError, stack: LocalStack) -> None:
    at = ("--url", stack.url, "--token", stack.token)
    assert "exactly one" in expect_error("encrypt", "a.png", "--scheme", "tanaka,ele", *at)


def test_a_cancelled_evaluation_or_training_is_reported_as_cancelled(
    expect_error: ExpectError, stack: LocalStack
) -> None:
    with Client(stack.url, stack.token) as client:
        key = client.keys.create("tn-gan", {"profile": "paper", "dataset": "sample"})
        key.cancel()
        evaluation = client.evaluations.create(schemes=["tanaka"], attacks=["itn"], profile="paper")
        evaluation.cancel()
    at = ("--url", stack.url, "--token", stack.token)
    assert f"{key.id} was cancelled" in expect_error("keys", "show", key.id, "--watch", *at, code=1)
    assert f"{evaluation.id} was cancelled" in expect_error(
        "evaluations", "show", evaluation.id, "--watch", *at, code=1
    )


def test_an_evaluation_whose_utility_alone_failed_reports_it() -> None:
    error = {"code": "internal", "detail": "no memory"}
    job = {"id": "cell_1", "scheme": {"name": "tanaka"}, "status": "failed", "progress": 1.0, "error": error}
    raw = {
        "id": "ev_1", "name": "audit", "status": "failed", "created_at": "2026-11-30T12:00:00Z", "started_at": None,
        "finished_at": None, "verdicts": [], "cells": [], "utility": [job], "settings": {},
        "progress": {"done": 0, "total": 0, "fraction": 1.0, "eta_s": None, "phase": None},
    }  # fmt: skip
    assert evaluations._failure_reasons(Evaluation(raw, None)) == "utility on tanaka: no memory"


def test_the_demo_reports_invalid_arguments(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["demo", "--state", str(tmp_path / "file")])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    main = runpy.run_path(str(Path(__file__).parents[3] / "examples/demo.py"))["main"]
    assert main() == 1
    assert "a file of that name already exists" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setattr(sys, "argv", ["demo", "--profile", "long"])
    with pytest.raises(SystemExit):
        main()
    assert "invalid choice: 'long'" in capsys.readouterr().err


def test_the_folder_that_one_is_in_is_sent_with_a_file_older_than_zips(
    expect_error: ExpectError, stack: LocalStack, tmp_path: Path
) -> None:
    os.utime(tmp_path / "a.png", (0, 0))
    said = expect_error("datasets", "upload", ".", "--url", stack.url, "--token", stack.token)
    assert "bad_archive" in said, "the service saw it; there are no classes in it"


def test_an_account_that_is_not_there_is_wrong_usage(expect_error: ExpectError, stack: LocalStack, monkeypatch) -> None:
    for name, value in stack.environment.items():
        if name.startswith("UNVEIL_"):
            monkeypatch.setenv(name, value)
    for words in (("accounts", "revoke", "nobody"), ("accounts", "sign-in", "nobody")):
        said = expect_error(*words)
        assert "'nobody'" in said
        assert "`unveil accounts list`" in said
