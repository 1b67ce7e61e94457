"""`unveil`'s commands on keys, evaluations and the catalog, in this process; what every command must have."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
import typer.main

from tests.sample_images import archive, classes, png
from unveil.app import cli
from unveil.app.cli import server
from unveil.app.cli.common import stdout
from unveil.app.client.client import Client
from unveil.app.local.stack import LocalStack

ROOT = Path(__file__).parents[3]
# They run the service, print nothing, or print what is no JSON: a file, a secret for another command.
NO_JSON = {
    "local", "serve", "worker", "migrate", "backup", "restore", "report write", "accounts revoke", "accounts sign-in",
    "datasets delete", "evaluations delete", "shares revoke", "webhooks delete",
    "keys destroy", "keys export", "keys new-ring", "keys add-master",
    "keys rotate-master", "tokens revoke", "accounts quota", "jobs cancel", "plugins check",
    "plugins new",
}  # fmt: skip


@pytest.fixture
def run(stack: LocalStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The command's stdout; the exit code must be as said."""

    def run(*words: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["unveil", *words, "--state", str(stack.state)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert (ended.value.code or 0) == code, said
        return said.out if code == 0 else said.err

    return run


def test_a_key_is_made_shown_exported_and_destroyed(run, stack: LocalStack, tmp_path: Path) -> None:
    id = run("keys", "create", "tanaka:icce2018").strip()
    assert id in run("keys", "list")
    assert "icce2018" in run("keys", "show", id)
    (tmp_path / "key.json").write_text(run("keys", "export", id))
    again = json.loads(run("keys", "create", "tanaka:icce2018", "--material", str(tmp_path / "key.json"), "--json"))
    assert again["status"] == "ready"
    assert run("keys", "export", again["id"]) == run("keys", "export", id)
    run("keys", "destroy", id, "--yes")
    assert "destroyed" in run("keys", "show", id, code=1)
    assert "not_training" in run("keys", "cancel", again["id"], code=1)
    ring = stack.settings.keyring_file.read_text()
    run("keys", "destroy", again["id"], "--yes", "--thorough")
    assert "destroyed" in run("keys", "show", again["id"], code=1)
    assert stack.settings.keyring_file.read_text() != ring
    ring = stack.settings.keyring_file.read_text()
    assert "key_destroyed" in run("keys", "destroy", again["id"], "--yes", code=1)
    run("keys", "destroy", again["id"], "--yes", "--thorough")  # as after a run whose rotation failed
    assert stack.settings.keyring_file.read_text() != ring
    assert "exactly one" in run("keys", "create", "tanaka,ele", code=2)


def test_an_operator_lists_and_cancels_jobs_and_sets_quotas(run) -> None:
    order = ("--schemes", "tanaka", "--attacks", "itn:epochs=100000", "--profile", "smoke")
    evaluation_id = run("evaluate", *order).strip()
    jobs = json.loads(run("jobs", "list", "--json"))
    (job,) = (job for job in jobs if (job["evaluation_id"], job["attack"]) == (evaluation_id, "itn"))
    assert job["estimated_core_hours"] > 1
    assert job["id"] in run("jobs", "list")
    assert run("jobs", "cancel", job["id"]).strip() in ("cancelled", "cancelling")
    assert "there is no job 'nothing'" in run("jobs", "cancel", "nothing", code=1)
    run("evaluations", "cancel", evaluation_id)
    run("accounts", "quota", "local", "1")
    assert "cost_quota_exceeded" in run("evaluate", *order, code=2)
    assert re.search(
        r"estimated cost: \S+ core hours.*\nquota: \S+ of 1 core hours", run("evaluate", *order, "--estimate")
    )
    estimate = json.loads(run("evaluate", *order, "--estimate", "--json"))
    assert estimate["estimated_core_hours"] > estimate["quota"]["limit"] == 1
    assert "--estimate creates no evaluation" in run("evaluate", *order, "--estimate", "--watch", code=2)
    run("accounts", "quota", "local")
    assert json.loads(run("accounts", "list", "--json"))[0]["max_cost_core_hours"] is None


def test_evaluations_are_listed_followed_cancelled_and_deleted(run) -> None:
    order = ("--schemes", "tanaka", "--attacks", "fr", "--profile", "smoke", "--keys", "1", "--name", "[mine]")
    id = run("evaluate", *order).strip()
    assert "Verdicts" in run("evaluations", "show", id, "--watch")
    assert "[mine]" in run("evaluations", "list")
    assert json.loads(run("evaluations", "show", id, "--json"))["status"] == "succeeded"
    assert run("evaluations", "edit", id, "--name", "[final]", "--tags", "paper, ci", "--notes", "n1\nn2").strip() == (
        "[final], paper, ci"
    )
    assert "tags: paper, ci" in run("evaluations", "show", "[final]")
    assert "[final]" in run("evaluations", "list", "--tag", "ci")
    assert json.loads(run("evaluations", "edit", id, "--tags", "", "--json"))["notes"] == "n1\nn2"
    assert "--name, --tags or --notes" in run("evaluations", "edit", id, code=2)
    link = run("shares", "create", id, "--days", "2", "--no-images").strip()
    assert httpx.get(link).status_code == 200
    (share,) = json.loads(run("shares", "list", id, "--json"))
    assert share["images"] is False
    run("shares", "revoke", id, "latest")
    assert httpx.get(link).status_code == 404
    assert "ended" in run("evaluations", "cancel", id, code=1)
    run("evaluations", "delete", id, "--yes")
    assert id in run("evaluations", "show", id, code=2)
    lasts = run("evaluate", *order, "--attacks", "itn:epochs=100000").strip()  # or it may have succeeded already
    assert run("evaluations", "cancel", lasts).strip() in ("cancelling", "cancelled")


def test_webhooks_are_created_listed_and_deleted(run) -> None:
    made = json.loads(run("webhooks", "create", "https://receiver.test/", "--json"))
    assert made["secret"].startswith("whsec_")
    assert "https://receiver.test/" in run("webhooks", "list")
    deliveries = json.loads(run("webhooks", "deliveries", "latest", "--json"))
    assert {delivery["event"] for delivery in deliveries} <= {"evaluation.finished"}, (
        "of evaluations that end meanwhile"
    )
    assert "https://" in run("webhooks", "create", "http://receiver.test/", code=2)
    run("webhooks", "delete", made["id"])
    assert "there is no webhook" in run("webhooks", "deliveries", made["id"], code=2)


def test_a_build_fails_with_4_on_a_verdict_and_gets_junit_and_a_summary(run, tmp_path: Path) -> None:
    order = ("--schemes", "tanaka", "--attacks", "fr", "--profile", "smoke", "--keys", "1", "--name", "<gate>")
    files = ("--junit", str(tmp_path / "junit.xml"), "--summary", str(tmp_path / "summary.md"))
    assert "--fail-on broken is met by: broken" in run("evaluate", *order, "--fail-on", "broken", *files, code=4)
    (suite,) = ElementTree.parse(tmp_path / "junit.xml").getroot()
    cases = {case.get("name"): [outcome.tag for outcome in case] for case in suite}
    assert cases["verdict"] == ["failure"]
    assert cases["key-recovery (ciphertext-only)"] == ["failure"]
    assert cases["none (ciphertext-only)"] == []
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("### \\<gate\\>")
    assert "| failed |" in summary
    assert "Verdicts" in run("evaluations", "wait", "latest")
    assert "broken" in run("evaluations", "wait", "latest", "--fail-on", "leaks", code=4)


def test_an_evaluation_is_deleted_only_after_a_yes(run, monkeypatch: pytest.MonkeyPatch) -> None:
    order = ("--schemes", "tanaka", "--attacks", "brute-force", "--profile", "smoke", "--keys", "1")
    id = run("evaluate", *order, "--name", "to be deleted", "--watch", "--json")
    id = json.loads(id)["id"]
    for answer, code in (("n\n", 1), ("", 1), ("y\n", 0)):
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        assert json.loads(run("evaluations", "show", id, "--json"))["name"] == "to be deleted"
        run("evaluations", "delete", id, code=code)
    assert id in run("evaluations", "show", id, code=2)


def test_names_beginnings_and_latest_stand_for_ids(run, tmp_path: Path) -> None:
    key = run("keys", "create", "tanaka").strip()
    for reference in ("latest", key[:-4], key.removeprefix("key_")):
        assert json.loads(run("keys", "show", reference, "--json"))["id"] == key
    (tmp_path / "a.png").write_bytes(png(1, 16, 16))
    encrypt = ("encrypt", str(tmp_path / "a.png"), "--out", str(tmp_path), "--json", "--key")
    assert json.loads(run(*encrypt, "latest"))["images"][0]["key_id"] == key
    (tmp_path / "set.zip").write_bytes(archive(classes(5)))
    dataset = run("datasets", "upload", str(tmp_path / "set.zip"), "--name", "holiday", "--size", "16").strip()
    order = ("--attacks", "brute-force", "--profile", "smoke", "--name", "by reference", "--json", "--watch")
    for reference in ("holiday", "latest", dataset[:-4]):
        made = json.loads(run("evaluate", "--schemes", f"tanaka:key_id={key[:-4]}", "--dataset", reference, *order))
        assert (made["settings"]["dataset"], made["cells"][0]["scheme"]["key_id"]) == (dataset, key)
    assert "matches 3 evaluations" in run("evaluations", "show", "by reference", code=2)
    assert json.loads(run("evaluations", "show", made["id"][:-4], "--json"))["id"] == made["id"]
    run("keys", "destroy", key[:-4], "--yes")
    run("datasets", "delete", "holiday")
    token = json.loads(run("tokens", "create", "local", "--scopes", "read", "--label", "for a test", "--json"))["id"]
    run("tokens", "revoke", "for a test")
    assert {item["id"]: item["revoked_at"] for item in json.loads(run("tokens", "list", "--json"))}[token]


@pytest.mark.parametrize("width", [80, 100])
def test_a_list_of_evaluations_cuts_a_long_name_and_nothing_else(run, monkeypatch, width: int) -> None:
    name = "third audit of the photographs of the archive, " + "x" * 150
    order = ("--schemes", "tanaka,pixelwise", "--attacks", "none", "--profile", "smoke", "--name", name)
    id = run("evaluate", *order).strip()
    monkeypatch.setattr(stdout(), "width", width)
    lines = run("evaluations", "list").splitlines()
    assert max(map(len, lines)) <= width
    (line,) = (line for line in lines if id in line)
    assert line.split()[0] == id
    assert line.split()[1] in ("queued", "running", "succeeded")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", line.split()[-1])


@pytest.mark.parametrize("width", [80, 100, None])
def test_lists_of_datasets_and_keys_show_ids_and_figures_whole(run, monkeypatch, tmp_path, width) -> None:
    name = "photographs of the archive, " + "x" * 150
    (tmp_path / "set.zip").write_bytes(archive(classes(5)))
    images = run("datasets", "upload", str(tmp_path / "set.zip"), "--name", name, "--size", "16").strip()
    key = run("keys", "create", "tn-gan", "--profile", "paper", "--dataset", "sample").strip()
    run("keys", "cancel", key)
    if width is not None:  # else as in a pipe
        monkeypatch.setattr(stdout(), "width", width)
    for command, id, figures in (
        ("datasets", images, ["8", "2", "16x16", "2"]),
        ("keys", key, ["cancell(ing|ed)", "0", r"\d{4}-\d\d-\d\d"]),
    ):
        said = run(command, "list")
        line = re.search(" +".join([f"^ {id}", *figures]) + " *$", said, re.MULTILINE)
        assert line, said
        assert width is None or len(line[0]) <= width
    listed = run("datasets", "list")
    assert name in listed if width is None else "".join(name.split()) in "".join(listed.split())
    run("datasets", "delete", images)


NAMES = ("v2 [/old] x", "audit [/] final", "[draft] v2", "v:key:1")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_printed_as_it_is_whatever_brackets_and_colons_it_holds(run, tmp_path: Path, name: str) -> None:
    (tmp_path / "set.zip").write_bytes(archive(classes(5)))
    made = run("datasets", "upload", str(tmp_path / "set.zip"), "--name", name, "--size", "16").strip()
    assert name in run("datasets", "list")
    run("datasets", "delete", made)
    order = ("--schemes", "tanaka", "--attacks", "brute-force", "--profile", "smoke", "--name", name)
    assert f"{name}: succeeded" in run("evaluate", *order, "--watch")
    assert name in run("evaluations", "list")
    assert f"{name!r}" in run("accounts", "revoke", name, code=2)


def test_a_path_and_an_error_are_printed_as_they_are(run, tmp_path: Path) -> None:
    picture = tmp_path / "my:smile:[b] pic.png"
    picture.write_bytes(png(1))
    said = run("encrypt", str(picture), "--scheme", "tanaka", "--out", str(tmp_path / ":key:"))
    assert Path(said.split("  ")[0]).name == "my:smile:[b] pic.protected.png"
    assert Path(said.split("  ")[0]).exists()
    assert "pixelwise:banana: write" in run("encrypt", str(picture), "--scheme", "pixelwise:banana", code=2)


def test_why_there_are_no_figures_stands_below_the_table_once(run, truncated_dataset: str, tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(archive(classes(5)))
    id = run("datasets", "upload", str(tmp_path / "set.zip"), "--protected").strip()
    order = ("--attacks", "none,fr,brute-force,gan,known-plaintext", "--profile", "smoke", "--watch")
    said = run("evaluate", "--schemes", f"external:dataset={id}", *order)
    assert "N/A: brute-force: " in said
    assert "N/A: gan: unpaired plain images are needed: name them in `public_dataset`" in said
    assert said.count("upload `originals` for a score") == 1
    assert re.search(r"not scored: [^:]*none, fr, [^:]*: no originals", said)

    failing = ("--attacks", "none,fr", "--dataset", truncated_dataset, "--profile", "smoke", "--watch")
    run("evaluate", "--schemes", "tanaka,ele", *failing, code=1)
    said = " ".join(run("evaluations", "show", "latest").split())
    assert re.search(r"failed: none, fr, [^:]*: dataset half: 'cut.png' is cut off", said)
    verdicts, _, figures = said.partition("scheme none")
    assert figures.count("is cut off") == 1
    assert "Verdicts: the worst case" in verdicts
    assert "not tried:" not in verdicts, "the verdict's own sentence names them"


def test_the_catalog_is_listed_as_a_whole_and_one_by_one(run) -> None:
    assert "2^51,471" in run("schemes")
    assert "known-plaintext" in run("attacks")
    assert "weight_decay" in run("attacks", "itn")
    assert "or icce2018" in run("schemes", "tanaka")
    assert json.loads(run("attacks", "fr", "--json"))["threat_model"] == "ciphertext-only"
    assert "choose from " in run("schemes", "rot13", code=2)


def test_every_command_has_help_and_prints_json_if_it_prints_a_result() -> None:
    without = set()
    for name, command in _commands(typer.main.get_command(cli.app)):
        assert command.help, f"unveil {name} has no help"
        if "--json" not in {option for parameter in command.params for option in parameter.opts}:
            without.add(name)
    assert without == NO_JSON


def test_help_shows_flags_without_a_type(run, capsys) -> None:
    for command in (("datasets", "list"), ("evaluate",), ()):
        with pytest.raises(SystemExit):
            cli.app([*command, "--help"], prog_name="unveil")
        said = capsys.readouterr().out
        assert "--help" in said
        assert "<bool>" not in said


def test_help_lists_every_command_with_its_whole_sentence(monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    group: Any = typer.main.get_command(cli.app)
    with pytest.raises(SystemExit):
        cli.app(["--help"], prog_name="unveil")
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    listed = " ".join(said.partition("Commands:")[2].split())
    for name, command in group.commands.items():
        sentence = " ".join(command.help.split()).partition(". ")[0]
        assert f"{name} {sentence}" in listed
    assert "..." not in listed


def test_no_line_of_a_table_ends_in_blanks_in_a_pipe(run) -> None:
    key = run("keys", "create", "tanaka").strip()
    printed = [
        run("schemes"),
        run("attacks", "fr"),
        run("datasets", "list"),
        run("keys", "list"),
        run("keys", "show", key),
    ]
    for text in printed:
        assert not [line for line in text.splitlines() if line != line.rstrip()]


def test_bash_completes_commands_and_names_and_is_silent_where_no_service_answers(tmp_path: Path) -> None:
    unveil = tmp_path / "unveil"
    unveil.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from unveil.app.cli import main; main()" "$@"\n')
    unveil.chmod(0o755)
    script = """
        source <(_UNVEIL_COMPLETE=source_bash unveil)
        function=$(complete -p unveil | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        for typed in "eval" "evaluate --schemes pixelwise,ta" "evaluate --dataset s"; do
            COMP_WORDS=(unveil $typed) COMP_CWORD=$(( $(wc -w <<< "$typed") ))
            $function unveil
            echo "${COMPREPLY[@]}"
        done
    """
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "UNVEIL_URL": "http://127.0.0.1:9"}
    done = subprocess.run(
        ["bash", "-c", script], env={**os.environ, **path}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["evaluate evaluations", "pixelwise,tanaka", ""]
    assert not done.stderr


def test_fish_shows_a_name_beside_its_id_as_it_is(stack: LocalStack) -> None:
    with Client(stack.url, stack.token) as client:
        order = {"schemes": ["tanaka"], "attacks": ["brute-force"], "profile": "smoke"}
        id = client.evaluations.create(**order, name=NAMES[0]).id
    typed = {"_UNVEIL_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    typed |= {"_TYPER_COMPLETE_ARGS": f"unveil evaluations show --state {stack.state} {id}"}
    done = subprocess.run(
        [sys.executable, "-c", "from unveil.app.cli import main; main()"],
        env={**os.environ, **typed}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert f"{id}\t{NAMES[0]}, " in done.stdout, done.stderr


def _commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def test_two_workers_on_a_machine_have_two_names(monkeypatch: pytest.MonkeyPatch) -> None:
    names = set()

    def become(_: str, command: list[str]) -> None:
        names.add(command[command.index("--hostname") + 1])

    monkeypatch.setattr(os, "execv", become)
    for pid in (7, 8):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        server.worker("attack", 1)
    assert names == {"attack-7@%h", "attack-8@%h"}
