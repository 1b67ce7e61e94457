"""`unveil local` starts from one folder, and recovers when any of its processes is killed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from unveil.app.local.stack import AlreadyRunning, LocalStack

UNVEIL = Path(sys.executable).with_name("unveil")
pytestmark = pytest.mark.xdist_group("stack")  # with the others that run everything: two such on two cores are slow


@dataclass
class Command:
    process: subprocess.Popen[str]
    state: Path
    url: str

    def get(self, path: str) -> httpx.Response:
        token = (self.state / "token").read_text().strip()
        return httpx.get(self.url + path, headers={"Authorization": f"Bearer {token}"}, timeout=10)

    def pid(self, name: str) -> int:
        """0 while it is being restarted."""
        try:
            return int((self.state / "run" / f"{name}.pid").read_text().split()[0])
        except (FileNotFoundError, IndexError):  # IndexError: it is being written
            return 0

    def kill(self, name: str) -> int:
        """Its number until then. Nobody is killed by the number 0, which stands for all of us."""
        wait_until(lambda: self.pid(name) != 0, f"{name} does not run")
        before = self.pid(name)
        psutil.Process(before).kill()
        return before

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def local(state: Path) -> Iterator[Command]:
    process = subprocess.Popen(
        [UNVEIL, "local", "--state", state, "--port", str(free_port(state))],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        seen = ""
        for line in process.stdout:
            seen += line
            if "http://127.0.0.1" in line:
                url = line[line.index("http://") :].split()[0].split("/sign-in")[0].rstrip("/")
                yield Command(process, state, url)
                return
        raise AssertionError(f"it did not start:\n{seen}")
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
        process.stdout.close()


def free_port(state: Path) -> int:
    return LocalStack(state, 0).port


def wait_until(condition: Callable[[], bool], description: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, description
        time.sleep(0.1)


def describe_running(processes: list[psutil.Process]) -> list[str]:
    """Those that still run: what they do, with the stack in the kernel where it may be read."""

    def describe_process(process: psutil.Process) -> str:
        try:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return ""
            waits = Path(f"/proc/{process.pid}/wchan").read_text()
            return f"{process.pid} {process.status()} in {waits}: {' '.join(process.cmdline())}"
        except (psutil.NoSuchProcess, OSError):
            return ""

    return [each for each in map(describe_process, processes) if each]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_it_starts_heals_and_stops_in_order(state: Path) -> None:
    with local(state) as command:
        assert command.get("/health/ready").status_code == 200
        assert command.get("/accounts").status_code == 200
        assert stat.S_IMODE((state / "token").stat().st_mode) == 0o600
        assert len((state / "token").read_text().splitlines()) == 1
        assert stat.S_IMODE((state / "secrets").stat().st_mode) == 0o700

        with pytest.raises(AlreadyRunning, match="another `unveil local`"), LocalStack(state, 0):
            pass
        other = state.with_name("other")
        with pytest.raises(AlreadyRunning, match="--port"), LocalStack(other, int(command.url.split(":")[2])):
            pass
        assert not other.exists(), "a start on a port that is taken makes nothing"

        for name in ("worker-attack", "api", "redis", "postgres"):
            before = command.kill(name)
            wait_until(lambda name=name, old=before: command.pid(name) not in (0, old), f"{name} was not restarted")
        wait_until(lambda: command_is_ready(command), "the service did not recover")

        family = command.descendants()
        assert command.stop(signal.SIGTERM) == 0
        assert describe_running(family) == []
        assert not list((state / "run").glob("*.pid"))


def test_attack_workers_share_the_cores(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: dict[str, str | None] = {}
    monkeypatch.setattr(
        "unveil.app.local.stack.spawn",
        lambda name, command, *, env, **_: threads.update({name: env.get("OMP_NUM_THREADS")}),
    )
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    stack = LocalStack(state, 0, attack_workers=3)
    for name in stack._commands():
        stack._spawn(name)
    assert threads == {
        "api": None, "worker-encrypt": None, "worker-attack": "2", "worker-attack-2": "2", "worker-attack-3": "2"
    }  # fmt: skip
    stack._spawn("worker-attack", {"OMP_NUM_THREADS": "1"})
    assert threads["worker-attack"] == "1"


def command_is_ready(command: Command) -> bool:
    try:
        return command.get("/health/ready").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.slow
def test_it_resumes_with_the_same_token_also_after_everything_was_killed_at_once(state: Path) -> None:
    with local(state) as command:
        token = (state / "token").read_text()
        assert command.get("/accounts").status_code == 200
        for process in [psutil.Process(command.process.pid), *command.descendants()]:
            process.kill()
        command.process.wait(60)
    with local(state) as command:
        assert (state / "token").read_text() == token
        assert command.get("/accounts").status_code == 200
        family = command.descendants()
        command.stop(signal.SIGKILL)
        deadline = time.monotonic() + 60
        while (living := describe_running(family)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert living == []
