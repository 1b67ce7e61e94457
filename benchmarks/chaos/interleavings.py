"""Cancel against finish: a thousand histories of the state machine that hypothesis makes up, on a real database."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.chaos.outcome import Outcome, Tell
from tests import servers
from tests.factories import make_account
from tests.worker.history import run_histories
from unveil.app import broker
from unveil.app.settings import Settings
from unveil.worker.runtime import make_runtime


def run(tell: Tell, *, count: int = 1000, acts: int = 12) -> list[Outcome]:
    with tempfile.TemporaryDirectory() as name, servers.postgres(Path(name)) as server, servers.database(server) as url:
        servers.migrate(url)
        settings = Settings(database_url=url, blob_url=(Path(name) / "blobs").as_uri())
        tools = make_runtime(settings, broker.celery_app(settings))
        began = time.monotonic()
        happened = run_histories(tools, make_account(tools.sessions), count, acts)
        tell(f"{happened} in {time.monotonic() - began:.0f} s")
        tools.sessions.kw["bind"].dispose()
    note = f"up to {acts} acts each, two of them at once where it matters; one end for each cell, each change told"
    return [Outcome("cancel against finish", happened, happened, 0, note=note)]
