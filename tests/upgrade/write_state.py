"""Writes the state folder of version 0.1 that the upgrade tests start on: README.md lists what is in it.

Run it with an interpreter that has version 0.1 (commit 2625808) installed, from the root of this checkout:

    git worktree add ../unveil-0.1 2625808
    python -m venv ../unveil-0.1/.venv
    ../unveil-0.1/.venv/bin/pip install -c ../unveil-0.1/requirements.lock -e '../unveil-0.1[worker,local,s3,dev]'
    ../unveil-0.1/.venv/bin/python -m tests.upgrade.write_state --work /tmp/unveil-0.1 --out tests/upgrade

It takes about 10 minutes on two cores. All work goes over HTTP to a real `unveil local`, which is then killed in the
middle of its jobs. A second start on a copy of the folder records how the old version itself goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.upgrade import checks, old_state
from tests.upgrade.interruption import cut_power, interrupt_training
from tests.upgrade.old_state import OldState
from tests.upgrade.old_version import UNVEIL, OldStack, environment
from tests.upgrade.state_writer import StateWriter


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the stack is killed too
    parser = argparse.ArgumentParser(description="Write the state folder of version 0.1 for the upgrade tests")
    parser.add_argument("--work", type=Path, required=True, help="folder to work in; must not exist")
    parser.add_argument("--out", type=Path, required=True, help="folder for state-0.1.tar.xz and expected.json")
    arguments = parser.parse_args()
    work, out = arguments.work.absolute(), arguments.out.absolute()
    work.mkdir(mode=0o700, parents=True)

    expected = write(work / "written")
    back_up(work / "written", work / "copy")
    old_state.pack(work / "written", out / old_state.ARCHIVE.name)
    save(expected, out)
    expected["after"] = finish(old_state.unpack(work / "unpacked", out / old_state.ARCHIVE.name))
    save(expected, out)


def write(folder: Path) -> dict[str, Any]:
    """Fill `folder` and kill the stack; what was put where."""
    writer = StateWriter(folder)
    writer.start()
    try:
        writer.fill()
        interrupt_training(writer)
        cut_power(writer)
    finally:
        writer.stack.kill_all()  # after an error too
    return writer.expected


def back_up(written: Path, copy: Path) -> None:
    """`unveil backup` of a copy: it starts the servers, and the folder is to stay as the crash left it."""
    shutil.copytree(written, copy)
    old_state.give_to_postgres(copy / "state" / "postgres")
    command = [UNVEIL, "backup", written / "backup-0.1.tar", "--state", copy / "state"]
    subprocess.run(command, cwd=copy, env=environment(), check=True)


def finish(old: OldState) -> dict[str, Any]:
    """Start the old version on what was packed, check all of it, let every job end; how they ended."""
    settings = environment(UNVEIL_IDEMPOTENCY_HOURS="1000000")
    stack = OldStack(old.state, "--attack-workers", "2", environment=settings)
    try:
        ended = checks.check_upgrade(stack.url, old, record=True)
        with stack.redis() as client:
            checks.check_messages_gone(client, old)
        return ended
    finally:
        stack.stop()


def save(expected: dict[str, Any], out: Path) -> None:
    (out / old_state.EXPECTED.name).write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
