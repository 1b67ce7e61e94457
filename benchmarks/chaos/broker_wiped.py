"""Redis killed and wiped while cells wait: the messages are gone, the rows are not, and all of them end."""

from __future__ import annotations

import shutil
import time

from sqlalchemy import func, select

from benchmarks.chaos import images
from benchmarks.chaos.fixtures import LONG_ORDERS, ChaosEnvironment, chaos_environment
from benchmarks.chaos.outcome import FaultResult, ProgressCallback
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell


def run(log_progress: ProgressCallback, *, times: int = 3, cells: int = 50) -> list[FaultResult]:
    survived, lost, seconds = 0, 0, []
    with chaos_environment(durable=True) as environment:
        for _ in range(times):
            environment.wait_until(environment.stack.is_ready, "the stack")
            attack, extra_order = LONG_ORDERS[0]
            blocking_id = environment.create_evaluation([attack], **extra_order)
            environment.wait_until_running(blocking_id)
            ids = environment.create_evaluations(cells)
            queued_count = _count_queued(environment, ids)
            assert queued_count >= cells
            started_at = time.monotonic()
            environment.kill("redis")
            shutil.rmtree(environment.stack.state / "redis")
            environment.stack.restart_exited()
            environment.http.post(f"/evaluations/{blocking_id}/cancel")  # it has done its service, or has even ended
            environment.wait_until(
                lambda ids=ids, queued_count=queued_count: _count_queued(environment, ids) < queued_count,
                "the first cell",
            )
            seconds.append(time.monotonic() - started_at)
            seconds_to_end = environment.wait_until_ended(*ids)
            files = {"images": ("a.png", images.png(0), "image/png")}
            encrypted = environment.http.post("/encrypt", data={"scheme": "tanaka"}, files=files)
            damaged = environment.count_damaged_cells(ids)
            log_progress(
                f"the first taken after {seconds[-1]:.1f} s, all ended {seconds_to_end:.0f} s later, {damaged} harmed; "
                f"/encrypt answered {encrypted.status_code}"
            )
            survived += damaged == 0 and encrypted.is_success
            lost += damaged
    note = (
        f"at least {cells} cells queued each time, the workers alive; seconds from the kill until the first was taken"
    )
    return [FaultResult("Redis killed and wiped", times, survived, lost, seconds, note)]


def _count_queued(environment: ChaosEnvironment, ids: list[str]) -> int:
    query = select(func.count()).where(Cell.evaluation_id.in_(ids), Cell.status == Status.QUEUED)
    with environment.sessions() as session:
        return session.scalar(query) or 0
