"""Cancel against finish: a thousand histories of the state machine that hypothesis makes up, on a real database."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.chaos.outcome import FaultResult, ProgressCallback
from tests import servers
from tests.factories import make_account
from tests.worker.history import run_histories
from unveil.app import broker
from unveil.app.settings import Settings
from unveil.worker.runtime import make_runtime


def run(log_progress: ProgressCallback, *, count: int = 1000, max_steps: int = 12) -> list[FaultResult]:
    with tempfile.TemporaryDirectory() as name, servers.postgres(Path(name)) as server, servers.database(server) as url:
        servers.migrate(url)
        settings = Settings(database_url=url, blob_url=(Path(name) / "blobs").as_uri())
        runtime = make_runtime(settings, broker.make_celery_app(settings))
        started_at = time.monotonic()
        history_count = run_histories(runtime, make_account(runtime.sessions), count, max_steps)
        log_progress(f"{history_count} in {time.monotonic() - started_at:.0f} s")
        runtime.sessions.kw["bind"].dispose()
    note = f"up to {max_steps} acts each, two of them at once where it matters; one end for each cell, each change told"
    return [FaultResult("cancel against finish", history_count, history_count, 0, note=note)]
