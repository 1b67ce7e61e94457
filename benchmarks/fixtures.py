"""A stack of its own in a temporary folder, as `unveil local` starts it, but without a limit on requests a second."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
from PIL import Image

from unveil.app.local.stack import LocalStack
from unveil.models.data.dead_leaves import dead_leaves

_NO_RATE_LIMIT = {"UNVEIL_REQUESTS_PER_SECOND": "1000000"}


@contextmanager
def stack() -> Iterator[LocalStack]:
    with (
        tempfile.TemporaryDirectory(prefix="unveil-bench-") as folder,
        LocalStack(Path(folder) / "state", port=0, environment=_NO_RATE_LIMIT) as running,
    ):
        yield running


def client(running: LocalStack) -> httpx.Client:
    return httpx.Client(base_url=running.url, headers={"Authorization": f"Bearer {running.token}"}, timeout=120)


def photographs(count: int) -> list[bytes]:
    """PNGs of 96x96 images with natural statistics, as a camera's program would write them."""
    files = []
    for image in dead_leaves(count, seed=0):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return files


def encode_form(pngs: Sequence[bytes], scheme: str) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request to POST /encrypt, made once: what a client does is not to be measured."""
    files = [("images", (f"{i}.png", png, "image/png")) for i, png in enumerate(pngs)]
    request = httpx.Request("POST", "http://any/encrypt", data={"scheme": scheme}, files=files)
    return request.read(), {"Content-Type": request.headers["content-type"]}


def memory_mib(running: LocalStack) -> dict[str, float]:
    """MiB held by the service and by the encryption worker with its pool."""
    usage = {}
    for name in ("api", "worker-encrypt"):
        leader = psutil.Process(int((running.state / "run" / f"{name}.pid").read_text().split()[0]))
        family = [leader, *leader.children(recursive=True)]
        usage[name] = sum(process.memory_info().rss for process in family) / 2**20
    return usage
