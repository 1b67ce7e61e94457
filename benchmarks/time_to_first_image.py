"""How long a new user waits for the first protected picture: `python -m benchmarks.newcomer`.

Clones what is committed here into a new folder, says `make up` there, and asks for a picture as soon as the service is
ready. The packages come over the network, or out of a cache of uv's where there is one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from rich.console import Console

from unveil.models.core.images import to_png
from unveil.models.data.sample import load_photograph

REPOSITORY_ROOT = Path(__file__).parent.parent
_TIMEOUT_S = 1800.0


def main() -> None:
    console = Console(soft_wrap=True)
    image = to_png(load_photograph("chelsea.png"))
    with tempfile.TemporaryDirectory() as folder:
        clone, log = Path(folder) / "unveil", Path(folder) / "log"
        subprocess.run(["git", "clone", "--quiet", REPOSITORY_ROOT, clone], check=True)
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("UNVEIL_", "VIRTUAL_"))
        }
        started_at = time.monotonic()
        with log.open("w") as log_file:
            process = subprocess.Popen(  # a group of its own: the end is told to all of it
                ["make", "up", "PORT=8765"],
                cwd=clone, env=environment, stdout=log_file, stderr=log_file, start_new_session=True,
            )  # fmt: skip
        try:
            for milestone, is_reached in (
                ("packages installed", (clone / ".venv" / ".ready").exists),
                ("service ready", lambda: "Unveil is ready" in log.read_text()),
            ):
                _wait_until(process, is_reached, log)
                console.print(f"{milestone} after {time.monotonic() - started_at:.1f} s")
            url = (clone / ".state" / "up" / "address").read_text().strip()
            bearer = {"Authorization": f"Bearer {(clone / '.state' / 'up' / 'token').read_text().strip()}"}
            files = {"images": ("cat.png", image, "image/png")}
            answer = httpx.post(f"{url}/encrypt", data={"scheme": "tanaka"}, files=files, headers=bearer, timeout=120)
            answer.raise_for_status()
            console.print(f"first protected picture after {time.monotonic() - started_at:.1f} s")
        finally:
            os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
            process.wait(60)
    console.print(f"load {os.getloadavg()[0]:.1f}")


def _wait_until(process: subprocess.Popen[bytes], is_reached: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while not is_reached():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"`make up` did not come that far:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
