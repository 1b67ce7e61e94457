"""Child processes that never outlive their parent unnoticed.

Each child leads its own process group and has a pid file RUN/NAME.pid. On Linux the kernel ends the children when the
parent is killed. The next start ends every child that is left, by its pid file.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

# 1 is PR_SET_PDEATHSIG. The parent may have died before the call.
_PARENT_DEATH_PROGRAM = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, int(sys.argv[1]))
if os.getppid() != int(sys.argv[2]):
    sys.exit("parent is gone")
os.execvp(sys.argv[3], sys.argv[3:])
"""
_START_TIME_TOLERANCE_S = 2.0  # psutil derives start times from the boot time, which moves when the clock is set


@dataclass
class ChildProcess:
    name: str
    popen: subprocess.Popen[bytes]
    pid_file: Path
    log_path: Path
    stop_signal: signal.Signals

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def terminate(self) -> None:
        if self.running:
            self.popen.send_signal(self.stop_signal)

    def wait(self, timeout_s: float) -> None:
        """Wait for the exit. Kill it after the timeout, and always what is left of its process group."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(timeout_s)
        _kill_group(self.popen.pid)
        self.popen.wait()
        self.pid_file.unlink(missing_ok=True)

    def stop(self, timeout_s: float = 20.0) -> None:
        self.terminate()
        self.wait(timeout_s)

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of its log, for an error message."""
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def spawn(
    name: str,
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    run_dir: Path,
    log_path: Path,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> ChildProcess:
    """Start `command`, after ending a child of the same name that an earlier parent left behind.

    Call it from a thread that lives as long as the child should: the kernel treats that thread as the parent.
    """
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    pid_file = run_dir / f"{name}.pid"
    kill_orphan(pid_file)
    with log_path.open("ab") as out:
        popen = subprocess.Popen(
            [*_parent_death_prefix(stop_signal), *map(str, command)],
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,  # Ctrl-C reaches the parent only, which then stops its children in order
        )
    start_time = psutil.Process(popen.pid).create_time()
    pid_file.write_text(f"{popen.pid} {start_time} {int(stop_signal)}\n")
    if popen.stdin is not None:
        with contextlib.suppress(BrokenPipeError), popen.stdin:
            popen.stdin.write((stdin or "").encode())
    return ChildProcess(name, popen, pid_file, log_path, stop_signal)


def kill_orphan(pid_file: Path, timeout_s: float = 20.0) -> None:
    """End the process, and its group, that a killed parent left behind, but not another process with the same pid."""
    try:
        pid_text, start_time, number = pid_file.read_text().split()
    except (FileNotFoundError, ValueError):  # ValueError: the parent was killed while writing
        return
    pid = int(pid_text)
    with contextlib.suppress(psutil.NoSuchProcess):
        leader = psutil.Process(pid)
        if abs(leader.create_time() - float(start_time)) > _START_TIME_TOLERANCE_S:
            pid_file.unlink(missing_ok=True)
            return
        leader.send_signal(int(number))
        _wait_until_gone([leader], timeout_s)
    _kill_group(pid)
    pid_file.unlink(missing_ok=True)


def _kill_group(pgid: int) -> None:
    """Kill the remaining processes of a group whose leader was asked to stop, and wait for their exit."""
    members = [process for process in psutil.process_iter() if _process_group(process.pid) == pgid]
    for process in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _wait_until_gone(members, 5)


def _wait_until_gone(processes: Sequence[psutil.Process], timeout_s: float) -> None:
    """Wait until all have exited. Zombies, which stay in a container without an init, count as exited."""
    deadline = time.monotonic() + timeout_s
    while any(map(_is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.02)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _process_group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None


def _parent_death_prefix(stop_signal: signal.Signals) -> list[str]:
    """The command that asks the kernel for `stop_signal` at the parent's death, then executes the child's command.

    It is a program, because a preexec_fn is unsafe once there are threads.
    """
    if sys.platform != "linux":
        return []
    return [sys.executable, "-I", "-S", "-c", _PARENT_DEATH_PROGRAM, str(int(stop_signal)), str(os.getpid())]


def wait_until(condition: Callable[[], bool], description: str, timeout_s: float, *children: ChildProcess) -> None:
    """Wait until `condition` is true. Raises RuntimeError after the timeout, or when one of `children` exits."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        for child in children:
            if not child.running:
                raise RuntimeError(f"{child.name} exited before {description} was ready:\n{child.log_tail()}")
        if time.monotonic() > deadline:
            log_tails = "\n".join(child.log_tail() for child in children)
            raise RuntimeError(f"{description} was not ready after {timeout_s:.0f} s\n{log_tails}")
        time.sleep(0.05)
